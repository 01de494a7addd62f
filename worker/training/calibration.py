"""Reward calibration in the training loop: what each step observes of its pairs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from chesboard.calibration import Observed
from chesboard.configs import TrainConfig
from chesboard.forward.head_gram import measure_head
from chesboard.forward.packing import response_tokens
from chesboard.forward.states import PairStates
from chesboard.model import LoadedModel, head_of
from chesboard.objectives import PairLogprobs, pushes
from chesboard.pairs import TokenizedPair


def require_head(loaded: LoadedModel) -> None:
    """Raises:
    ValueError: the model has no linear output head, whose gradients the calibration needs.
    """
    if head_of(loaded) is None:
        raise ValueError(
            "reward_calibration needs the gradients at the output head, and this model changes its "
            "logits after the head (as Gemma 2 caps them). Train without it, or another model."
        )


def observe(
    loaded: LoadedModel,
    pairs: Sequence[TokenizedPair],
    states: PairStates,
    logprobs: PairLogprobs,
    config: TrainConfig,
    weights_B: Tensor | None,
    observed: Observed,
) -> None:
    """Add the pushes of the pairs' losses and the norms at the head, without gradient.

    One more product with the unembedding, as in a scoring pass; its gradient is not needed.
    """
    head = head_of(loaded)
    assert head is not None, "see require_head"
    tokens = response_tokens(pairs, loaded.device)
    _, gram = measure_head(head, states.hidden_UD.detach(), states.index, *tokens)
    up_B, down_B = pushes(logprobs, config)
    if weights_B is not None:
        up_B, down_B = up_B * weights_B, down_B * weights_B
    norms = (_root(gram.preferred_B), _root(gram.dispreferred_B))
    observed.add((up_B, down_B), norms)


def _root(squared_B: Tensor) -> Tensor:
    return torch.sqrt(squared_B.clamp(min=0.0))  # rounding may leave a zero below zero
