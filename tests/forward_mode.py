"""Changes of log-probabilities along a direction by forward mode, a pass for each direction: the
other way round than `chesboard.preflight.gradients` goes about it.

The fused head of `chesboard.forward.logprobs` knows the reverse mode alone, so it is written out.

Dimensions: B pairs, U positions, C positions of one piece, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from chesboard.forward import packing
from chesboard.forward.logprobs import logprobs_of_logits
from chesboard.forward.states import PairForward, PairStates
from chesboard.forward.two_pass import TwoPassForward
from chesboard.model import LoadedModel, head_of
from chesboard.pairs import TokenizedPair
from chesboard.preflight.gradients import Direction
from chesboard.preflight.tangents import along, dual_parts

PIECE_BYTES = 32 << 20
"""Logits of as many positions as this are held at once, and as much again for their changes."""


@dataclass(frozen=True, slots=True)
class Changes:
    """First-order changes of both log-probabilities of each pair, float64 (B,), in nats."""

    preferred: Tensor
    dispreferred: Tensor


def response_changes(
    loaded: LoadedModel,
    forward: PairForward,
    pairs: Sequence[TokenizedPair],
    direction: Direction,
) -> Changes:
    """How log p(y+) and log p(y-) of the pairs change as the weights move along the direction.

    Raises:
        NotImplementedError: the model has an operation without forward-mode derivative.
    """

    def compute() -> tuple[Tensor, Tensor]:
        states = _states(loaded, forward, pairs)
        return states.preferred_logprobs_B(), states.dispreferred_logprobs_B()

    with along(loaded, direction) as run:
        preferred_B, dispreferred_B = run(compute)
        return Changes(_tangent(preferred_B).double(), _tangent(dispreferred_B).double())


def _states(
    loaded: LoadedModel, forward: PairForward, pairs: Sequence[TokenizedPair]
) -> PairStates:
    """The states of the pairs with log-probabilities by plain operations."""
    if isinstance(forward, TwoPassForward):
        return forward(pairs)
    states = forward(pairs, logprobs=False)
    preferred_N, dispreferred_N = packing.response_tokens(pairs, loaded.device)
    targets_U2 = torch.zeros(
        len(states.hidden_UD), 2, dtype=torch.long, device=states.hidden_UD.device
    )
    targets_U2[states.index.preferred_rows_N, 0] = preferred_N
    targets_U2[states.index.dispreferred_rows_N, 1] = dispreferred_N
    return replace(states, logprobs_U2=_token_logprobs(loaded, states.hidden_UD, targets_U2))


def _token_logprobs(loaded: LoadedModel, hidden_UD: Tensor, targets_U2: Tensor) -> Tensor:
    """As `chesboard.forward.logprobs.token_logprobs`, some positions after the other."""
    head = head_of(loaded)
    assert head is not None, "select_forward allows this path only with a linear head"
    # In the weights' float32 whatever the model computes in: a change is a small difference of
    # the changes of logits.
    scaled_UD = head.scaled(hidden_UD).to(head.weight_VD.dtype)
    size = max(1, PIECE_BYTES // (4 * len(head.weight_VD)))
    return torch.cat(
        [
            logprobs_of_logits(
                nn.functional.linear(hidden_CD, head.weight_VD, head.bias_V), targets_C2
            )
            for hidden_CD, targets_C2 in zip(
                torch.split(scaled_UD, size), torch.split(targets_U2, size), strict=True
            )
        ]
    )


def _tangent(value: Tensor) -> Tensor:
    return dual_parts(value)[1]
