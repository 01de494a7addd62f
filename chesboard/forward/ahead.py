"""What every layer keeps of the tokens that are computed ahead of the rows: keys and values.

Dimensions: B rows, L tokens, K tokens that they may look at.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache


class KeysAndValues(DynamicCache):  # type: ignore[misc]  # transformers does not say its type
    """A cache that a forward pass can be ended at."""

    def __init__(self, config: Any) -> None:
        super().__init__(config=config)
        self._last_layer: int = config.get_text_config(decoder=True).num_hidden_layers - 1
        self.ends_the_pass = False

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *others: Any, **named: Any
    ) -> tuple[Tensor, Tensor]:
        both: tuple[Tensor, Tensor] = super().update(
            key_states, value_states, layer_idx, *others, **named
        )
        if self.ends_the_pass and layer_idx == self._last_layer:
            raise _EverythingIsKept
        return both


class _EverythingIsKept(Exception):  # noqa: N818 - no error
    pass


def keep(
    decoder: Any, input_BL: Tensor, mask_B1LK: Tensor | None = None, past: Any = None
) -> KeysAndValues:
    """Keys and values of these tokens behind those of `past`, which they are added to.

    The pass ends where the last layer has handed them over: of its attention and its feed-forward
    part nothing is asked, which is a thirtieth of all in a model of 30 layers. A model whose last
    layer keeps nothing goes through to its end, which changes nothing else.
    """
    kept = KeysAndValues(decoder.config) if past is None else past
    kept.ends_the_pass = True
    try:
        decoder(input_ids=input_BL, attention_mask=mask_B1LK, past_key_values=kept, use_cache=True)
    except _EverythingIsKept:
        pass
    finally:
        kept.ends_the_pass = False
    return kept
