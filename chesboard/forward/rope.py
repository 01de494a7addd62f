"""Rotary positions that depend on the length of the text: LongRoPE and dynamic NTK.

Dimensions: B rows of a batch, L positions of a row, R = L + 1, H size of an attention head.

LongRoPE (Phi-3) has two sets of frequencies and takes the second where the text is longer than the
model's original context; dynamic NTK computes them from the length of the text once it is longer
than that. transformers reads the length off the largest position of the whole batch, padding
included, and for dynamic NTK off the batches before it. Here each row has the frequencies of its
own text, prompt and whole response: those that the model has where it reads that text alone.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from chesboard.pairs import TokenizedPair
from chesboard.transformers_api import longrope_limits


class LengthDependentRope:
    """The rotary embeddings of a model whose frequencies depend on the length of the text."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = modules

    def length_class(self, tokens: int) -> Hashable:
        """Equal for two lengths of text under which the model has the same frequencies."""
        return tuple(_length_class(module, tokens) for module in self.modules)

    def same_for_both(self, pair: TokenizedPair) -> bool:
        """Whether the prompt has the same keys and values before both responses."""
        preferred, dispreferred = text_lengths(pair)
        return self.length_class(preferred) == self.length_class(dispreferred)

    def forget_earlier_lengths(self) -> None:
        """Have the next forward pass start anew, whatever texts the model has read."""
        for module in self.modules:
            _forget_earlier_lengths(module)

    @contextmanager
    def of(self, lengths: Sequence[int]) -> Iterator[None]:
        """Within it, row b of a forward pass has the frequencies of a text of `lengths[b]` tokens.

        Lengths of one class are those of any number of rows. Within another such context this one
        changes nothing: the outer lengths hold.
        """
        free = [module for module in self.modules if "forward" not in vars(module)]
        for module in free:
            _refuse_without_positions(module)
        for module in free:
            rows = _rows_by_class(module, lengths)
            module.forward = _by_length(module, module.forward, rows)
        try:
            yield
        finally:
            for module in free:
                del module.forward
                _forget_earlier_lengths(module)


def _refuse_without_positions(module: nn.Module) -> None:
    if "position_ids" not in signature(module.forward).parameters:  # Phi-3.5-MoE, before 5
        raise NotImplementedError(
            f"{type(module).__name__} computes frequencies that depend on the length of the text "
            f"for a whole batch, in transformers {transformers.__version__}. Later ones compute "
            "them for each text: update transformers."
        )


def length_dependent_rope(model: nn.Module) -> LengthDependentRope | None:
    """None where a token's rotary position is the same whatever the length of its text."""
    modules = [module for module in model.modules() if _types(module) & {"longrope", "dynamic"}]
    return LengthDependentRope(modules) if modules else None


@contextmanager
def rope_of(model: nn.Module, lengths: Sequence[int]) -> Iterator[None]:
    """`LengthDependentRope.of` where the model has such; else nothing."""
    rope = length_dependent_rope(model)
    if rope is None:
        yield
        return
    with rope.of(lengths):
        yield


def text_lengths(pair: TokenizedPair) -> tuple[int, int]:
    """Tokens of the prompt with y+ and with y-."""
    prompt = len(pair.prompt_ids)
    return prompt + len(pair.preferred_ids), prompt + len(pair.dispreferred_ids)


def _types(module: Any) -> set[str]:
    """The kinds of rotary positions of a module: of each kind of layer, if they differ."""
    found = getattr(module, "rope_type", None)
    kinds = found.values() if isinstance(found, dict) else [found]
    return {"dynamic" if "dynamic" in kind else kind for kind in kinds if isinstance(kind, str)}


def _length_class(module: Any, tokens: int) -> Hashable:
    dynamic = "dynamic" in _types(module) and tokens > module.original_max_seq_len
    is_long = tuple(tokens > limit for limit in longrope_limits(module))
    return is_long, tokens if dynamic else 0


def _rows_by_class(module: Any, lengths: Sequence[int]) -> list[tuple[int, list[int]]]:
    """(Tokens that stand for a class of lengths, its rows), for each class."""
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for row, tokens in enumerate(lengths):
        rows[_length_class(module, tokens)].append(row)
    return [(max(lengths[row] for row in members), members) for members in rows.values()]


def _by_length(
    module: Any, forward: Callable[..., Any], rows_by_class: list[tuple[int, list[int]]]
) -> Callable[..., tuple[Tensor, ...]]:
    """The module's forward pass, run once for each class of lengths."""

    def run(x: Tensor, position_ids: Tensor, *args: Any, **named: Any) -> tuple[Tensor, ...]:
        parts = [
            _of_one_length(module, forward, tokens, x, position_ids, *args, **named)
            for tokens, _ in rows_by_class
        ]
        if len(parts) == 1:
            return parts[0]
        order = torch.tensor([row for _, rows in rows_by_class for row in rows], device=x.device)
        return tuple(
            torch.cat(
                [
                    _rows_of(table, rows)
                    for table, (_, rows) in zip(tables, rows_by_class, strict=True)
                ]
            )[order.argsort()]
            for tables in zip(*parts, strict=True)
        )

    return run


def _of_one_length(
    module: Any,
    forward: Callable[..., Any],
    tokens: int,
    x: Tensor,
    position_BL: Tensor,
    *args: Any,
    **named: Any,
) -> tuple[Tensor, ...]:
    """cos_BLH and sin_BLH as in a text of so many tokens."""
    _forget_earlier_lengths(module)
    # The largest position tells the length: that of the text's last token is put behind the row.
    # Only padding can be at a larger one.
    last_B1 = position_BL.new_full((len(position_BL), 1), tokens - 1)
    position_BR = torch.cat([position_BL.clamp(max=tokens - 1), last_B1], dim=1)
    return tuple(table_BRH[:, :-1] for table_BRH in forward(x, position_BR, *args, **named))


def _rows_of(table_BLH: Tensor, rows: list[int]) -> Tensor:
    """These rows; one that stands for all of a batch is repeated."""
    if len(table_BLH) == 1:
        return table_BLH.expand(len(rows), -1, -1)
    return table_BLH[torch.tensor(rows, device=table_BLH.device)]


def _forget_earlier_lengths(module: Any) -> None:
    """Have dynamic NTK compute its frequencies anew at the next pass: transformers keeps those of
    the longest text so far."""
    if "dynamic" not in _types(module):
        return
    module.max_seq_len_cached = 0
    for layer_type in module.rope_type if isinstance(module.rope_type, dict) else ():
        setattr(module, f"{layer_type}_max_seq_len_cached", 0)
