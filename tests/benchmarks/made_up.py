"""Records of a run that nobody trains, as large as a worker's."""

from typing import Any

from chesboard.records import (
    METRICS,
    LedgerEntry,
    LedgerRecord,
    MetricRecord,
    ProbeRecord,
    ProbeStepRecord,
    RecentLedger,
)
from worker.recorder import Recorder

PROBES = 4
RESPONSE_TOKENS, WATCHED, LEDGER, GROUPS = 8, 110, 10, 2
METRIC_VALUES = len(METRICS)
PROBE_VALUES = 2 * RESPONSE_TOKENS + WATCHED + GROUPS + 6
"""Numbers of a look that are series of their own; its ledgers are not among them."""


def hand_over_probes(recorder: Recorder) -> None:
    for pair in range(PROBES):
        recorder.put(ProbeRecord(pair, "Is it?", ["No"], ["Never"], 0, [], []))


def hand_over_step(recorder: Recorder, step: int, steps: int, *, probes: bool) -> None:
    """As training does at the end of a step."""
    values: dict[str, Any] = dict.fromkeys(METRICS, 0.5) | {"tokens_seen": 100 * step}
    recorder.put(MetricRecord(step=step, **values))
    recorder.progress(step, steps, "steps")
    for pair in range(PROBES if probes else 0):
        recorder.put(_look(pair, step))


def _look(pair: int, step: int) -> ProbeStepRecord:
    entries = [LedgerEntry(n, f" t{n}", 0.1, 0.2, 0.1, 0.01) for n in range(LEDGER)]
    recent = RecentLedger(step - 1, entries, entries, 0.0, 0.5)
    ledger = LedgerRecord(
        [0.01] * WATCHED, entries, entries, 0.0, 0.5, recent, [0.1] * LEDGER,
        list(range(1, LEDGER + 1)), 0.5,
    )  # fmt: skip
    logprobs = [-0.5] * RESPONSE_TOKENS
    return ProbeStepRecord(
        pair, step, logprobs, logprobs, -0.1, -0.2, None, 0.4, 0.1, 0.5, [0.1] * GROUPS, ledger
    )
