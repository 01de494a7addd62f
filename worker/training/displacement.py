"""The pass after the last step: log-probabilities of each trained pair, and their displacement."""

from collections.abc import Sequence
from typing import Any

import torch

from chesboard.forward.batching import TokenBudget
from chesboard.forward.states import PairForward
from chesboard.pairs import TokenizedPair
from chesboard.records import FinalRecord, displaced
from chesboard.reporting import Control, Reporter
from worker.training.reference import Reference
from worker.training.sharing import ALONE, Ranks, in_shared_batches


def measure_displacement(
    forward: PairForward,
    pairs: Sequence[TokenizedPair],
    reference: Reference,
    budget: TokenBudget,
    reporter: Reporter,
    control: Control,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Measure all trained pairs under the trained model and hand them to the reporter, together
    with those of the reference. Returns the summary: means in nats, and the displaced fraction."""
    records: list[FinalRecord] = []

    @torch.no_grad()
    def measure(batch: list[TokenizedPair]) -> list[FinalRecord]:
        states = forward(batch)
        preferred = states.preferred_logprobs_B().tolist()
        dispreferred = states.dispreferred_logprobs_B().tolist()
        return [
            FinalRecord(pair.pair, *reference[pair.pair][:2], preferred[b], dispreferred[b])
            for b, pair in enumerate(batch)
        ]

    def keep(found: list[FinalRecord]) -> None:
        reporter.put(*found)
        records.extend(found)
        reporter.progress(len(records), len(pairs), "pairs")

    in_shared_batches(ranks, pairs, forward.row_tokens, budget, control, measure, keep)
    return _summarize(records)


def _summarize(records: Sequence[FinalRecord]) -> dict[str, Any]:
    preferred = [record.final_preferred - record.preferred for record in records]
    dispreferred = [record.final_dispreferred - record.dispreferred for record in records]
    is_displaced = [displaced(*both) for both in zip(preferred, dispreferred, strict=True)]
    return {
        "measured": len(records),
        "preferred_change": sum(preferred) / len(records),
        "dispreferred_change": sum(dispreferred) / len(records),
        "displaced_fraction": sum(is_displaced) / len(records),
    }
