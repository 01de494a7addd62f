"""Next-token logits of a single text, through the model's own head.

Dimensions: P positions, V vocabulary.
"""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor

from chesboard.forward.rope import rope_of
from chesboard.model import LoadedModel, autocast, causal_model


@torch.no_grad()
def next_token_logits(loaded: LoadedModel, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
    """logits_PV (float32) of the token that follows each of these positions of an unpadded text,
    without gradient."""
    return differentiable_logits(loaded, ids, positions)


def differentiable_logits(
    loaded: LoadedModel, ids: Sequence[int], positions: Sequence[int]
) -> Tensor:
    """The same, for whoever differentiates them.

    Only these positions go through the LM head where the model supports `logits_to_keep`.
    """
    model = causal_model(loaded)
    input_1L = torch.tensor([list(ids)], device=loaded.device)
    kept_P = torch.tensor(list(positions), device=loaded.device)
    with rope_of(model, [len(ids)]), autocast(loaded):
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            outputs = model(input_ids=input_1L, use_cache=False, logits_to_keep=kept_P)
            logits_PV: Tensor = outputs.logits[0]
        else:
            logits_PV = model(input_ids=input_1L, use_cache=False).logits[0, kept_P]
    return logits_PV.float()
