"""Forward passes of the probes: log-probabilities of responses, and next-token distributions.

Dimensions: B pairs in a batch, P positions, N response tokens of a batch, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chesboard.forward.batching import TokenBudget, in_batches
from chesboard.forward.rope import rope_of
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.probing.ledger import distribution
from chesboard.probing.next_token import next_token_logits
from chesboard.probing.probes import ResponsePosition
from chesboard.reporting import Control


@dataclass(frozen=True, slots=True)
class ProbeSnapshot:
    """A watched pair under the current weights."""

    preferred_logprobs: list[float]
    """Of each token of y+, in nats."""
    dispreferred_logprobs: list[float]
    now_V: Tensor
    """The distribution at the fork, float64 on the CPU."""


@torch.no_grad()
def snapshot_pairs(
    forward: PairForward, pairs: Sequence[TokenizedPair], budget: TokenBudget, control: Control
) -> dict[int, ProbeSnapshot]:
    """Snapshots by pair ordinal, computed in batches that fit into memory."""
    snapshots: dict[int, ProbeSnapshot] = {}

    def add(batch: list[TokenizedPair]) -> None:
        states = forward(batch, forks=True)
        assert states.fork_logits_BV is not None
        preferred = _split(
            states.preferred_token_logprobs_N(), [pair.preferred_ids for pair in batch]
        )
        dispreferred = _split(
            states.dispreferred_token_logprobs_N(), [pair.dispreferred_ids for pair in batch]
        )
        for b, pair in enumerate(batch):
            now_V = distribution(states.fork_logits_BV[b])
            snapshots[pair.pair] = ProbeSnapshot(preferred[b], dispreferred[b], now_V)

    in_batches(pairs, forward.row_tokens, budget, control, add)
    return snapshots


def _split(values_N: Tensor, responses: Sequence[Sequence[int]]) -> list[list[float]]:
    """The values of all responses' tokens, one after the other, as a list for each response."""
    parts = torch.split(values_N.cpu(), [len(ids) for ids in responses])
    return [part.tolist() for part in parts]


def distributions_at(
    loaded: LoadedModel,
    pair: TokenizedPair,
    positions: Sequence[ResponsePosition],
    control: Control,
) -> Iterator[tuple[ResponsePosition, Tensor]]:
    """The next-token distribution at response positions of a pair: one forward pass a response."""
    for response, ids in (
        ("preferred", pair.preferred_ids),
        ("dispreferred", pair.dispreferred_ids),
    ):
        wanted = [place for place in positions if place[0] == response]
        if not wanted:
            continue
        control.check()
        text = [*pair.prompt_ids, *ids[: max(position for _, position in wanted)]]
        # Response token k is predicted at the token before it; that of k = 0 is the prompt's last.
        before_first = len(pair.prompt_ids) - 1
        with rope_of(loaded.model, [len(pair.prompt_ids) + len(ids)]):  # that of the whole response
            logits_PV = next_token_logits(
                loaded, text, [before_first + position for _, position in wanted]
            )
        for place, logits_V in zip(wanted, logits_PV, strict=True):
            yield place, distribution(logits_V)


def distribution_after(loaded: LoadedModel, prompt_ids: Sequence[int], control: Control) -> Tensor:
    """The distribution of the token that follows a prompt."""
    control.check()
    return distribution(next_token_logits(loaded, prompt_ids, [len(prompt_ids) - 1])[0])
