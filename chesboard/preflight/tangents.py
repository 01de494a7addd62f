"""Forward-mode differentiation: how the whole distribution at a fork changes as the weights move.

One pass computes each value together with its derivative (dual numbers), so the change is exact to
first order: no step size is chosen and nothing is subtracted. Where many values change along one
direction, as those of a vocabulary do, this is one pass; where few change along many directions,
reverse mode is (`chesboard.preflight.gradients`).

Dimensions: V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.preflight.gradients import Direction
from chesboard.probing.next_token import differentiable_logits


def fork_change(
    loaded: LoadedModel, pair: TokenizedPair, direction: Direction
) -> tuple[Tensor, Tensor]:
    """(probabilities_V at the pair's fork, their first-order changes_V), float64 on the CPU.

    Raises:
        NotImplementedError: the model has an operation without forward-mode derivative.
    """
    ids = [*pair.prompt_ids, *pair.preferred_ids[: pair.fork_position]]
    with along(loaded, direction) as run:
        logits_1V = run(lambda: differentiable_logits(loaded, ids, [len(ids) - 1]))
        logits_V, change_V = (part[0].double().cpu() for part in dual_parts(logits_1V))
    probs_V = logits_V.softmax(-1)
    # d pi = pi * (d logit - <pi, d logit>)
    return probs_V, probs_V * (change_V - (probs_V * change_V).sum())


@contextmanager
def along(
    loaded: LoadedModel, direction: Direction
) -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """A function that calls another while the model's weights are dual numbers."""
    whole = _Whole(loaded.model)
    # The fused attention kernels have no forward mode; the plain one is made of what has.
    with torch.enable_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
        weights = {
            f"model.{name}": _moving(weight.detach(), direction.get(name))
            for name, weight in loaded.model.named_parameters()
        }
        # Nothing requires a gradient, so no graph is kept; but layers that are computed in another
        # way without gradient (those of chesboard.cpu) have no derivative then.
        yield lambda compute: functional_call(whole, weights, (compute,))


class _Whole(nn.Module):
    """A module around the model, whose weights `functional_call` replaces while something that
    calls the model's parts is computed."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


def _moving(weight: Tensor, direction: Tensor | None) -> Tensor:
    if direction is None:
        return weight
    dual: Tensor = forward_ad.make_dual(weight, direction)  # type: ignore[no-untyped-call]
    return dual


def dual_parts(value: Tensor) -> tuple[Tensor, Tensor]:
    """(value, its change); no change where the value does not depend on what moves."""
    primal, tangent = forward_ad.unpack_dual(value)  # type: ignore[no-untyped-call]
    return primal, torch.zeros_like(primal) if tangent is None else tangent
