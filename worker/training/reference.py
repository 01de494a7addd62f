"""The reference pass: log-probabilities of the trained pairs before training changes the model."""

from collections.abc import Mapping, Sequence

import torch

from chesboard.forward.batching import TokenBudget, in_batches
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.records import ReferenceRecord
from chesboard.reporting import Control, Reporter
from worker.training.weights import reference_model

Reference = dict[int, tuple[float, float]]
"""pair → (log p(y+), log p(y-)) under the reference model, in nats."""


def complete_reference(
    loaded: LoadedModel,
    forward: PairForward,
    pairs: Sequence[TokenizedPair],
    budget: TokenBudget,
    reporter: Reporter,
    control: Control,
    known: Mapping[int, tuple[float, float]],
) -> Reference:
    """Log-probabilities of all pairs under the reference model; those in `known` are kept.

    Hands the computed ones to the reporter, batch by batch, so that a resumed run has them.
    """
    reference = {pair: (both[0], both[1]) for pair, both in known.items()}

    @torch.no_grad()
    def compute(batch: list[TokenizedPair]) -> None:
        states = forward(batch)
        preferred = states.preferred_logprobs_B().tolist()
        dispreferred = states.dispreferred_logprobs_B().tolist()
        rows = [
            ReferenceRecord(pair.pair, preferred[b], dispreferred[b])
            for b, pair in enumerate(batch)
            if pair.pair not in known
        ]
        reporter.put(*rows)
        reference.update({row.pair: (row.preferred, row.dispreferred) for row in rows})
        reporter.progress(len(reference), len(pairs), "pairs")

    reporter.phase("reference pass")
    with reference_model(loaded):
        in_batches(pairs, forward.row_tokens, budget, control, compute, done=known)
    return reference
