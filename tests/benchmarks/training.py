"""DPO training, against TRL's DPOTrainer, the reference pass included on both sides."""

import torch

from chesboard.cpu.precision import computed_in
from tests.benchmarks.measuring import Row, against, compare, largest_relative_difference

COUNTS = {"persona": 40, "dialogues": 16, "long prompts": 4}
"""Four steps at least: in the first two a process mostly gets its memory for the first time."""
FLOORS = {"train float32": 2.5, "train bfloat16": 4.0}
BETWEEN_BFLOAT16 = 1.5
FLOAT32, BFLOAT16 = ["trl float32", "train float32"], ["trl bfloat16", "train bfloat16"]


def rows(model: str, workloads: list[str], rounds: int) -> list[Row]:
    return [row for workload in workloads for row in _rows(workload, model, rounds)]


def _rows(workload: str, model: str, rounds: int) -> list[Row]:
    count = COUNTS[workload]
    cases = FLOAT32 + BFLOAT16 if _computes_bfloat16() else FLOAT32
    best = compare(workload, count, cases, model, rounds)
    base = best["trl float32"]
    found = []
    for case, mine in best.items():
        ratio, floor = against(base.seconds, mine.seconds, FLOORS.get(case))
        agreement = f"{largest_relative_difference(mine.values, base.values):.1e}"
        found.append(
            Row("training", workload, count, case, mine.seconds, ratio, floor, mine.peak_mib,
                "" if mine is base else agreement)
        )  # fmt: skip
    if cases == FLOAT32:
        return found
    theirs, ours = (best[case] for case in BFLOAT16)
    ratio, floor = against(theirs.seconds, ours.seconds, BETWEEN_BFLOAT16)
    found.append(
        Row("training", workload, count, "train against trl, both bfloat16", ours.seconds, ratio,
            floor, ours.peak_mib, f"{largest_relative_difference(ours.values, theirs.values):.1e}")
    )  # fmt: skip
    return found


def _computes_bfloat16() -> bool:
    """Where the processor can't, ours computes in float32 and TRL takes many times as long."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return computed_in(torch.bfloat16, device) == torch.bfloat16
