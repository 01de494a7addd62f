"""DPO training, against TRL's DPOTrainer, the reference pass included on both sides."""

from tests.benchmarks.measuring import Row, against, compare, largest_relative_difference

COUNTS = {"persona": 40, "dialogues": 16, "long prompts": 4}
"""Four steps at least: in the first two a process mostly gets its memory for the first time."""
FLOORS = {"train float32": 2.5, "train bfloat16": 4.0}
BETWEEN_BFLOAT16 = 1.5
CASES = ["trl float32", "train float32", "trl bfloat16", "train bfloat16"]


def rows(model: str, workloads: list[str], rounds: int) -> list[Row]:
    return [row for workload in workloads for row in _rows(workload, model, rounds)]


def _rows(workload: str, model: str, rounds: int) -> list[Row]:
    count = COUNTS[workload]
    best = compare(workload, count, CASES, model, rounds)
    base = best["trl float32"]
    found = []
    for case, mine in best.items():
        ratio, floor = against(base.seconds, mine.seconds, FLOORS.get(case))
        agreement = f"{largest_relative_difference(mine.values, base.values):.1e}"
        found.append(
            Row("training", workload, count, case, mine.seconds, ratio, floor, mine.peak_mib,
                "" if mine is base else agreement)
        )  # fmt: skip
    theirs, ours = best["trl bfloat16"], best["train bfloat16"]
    ratio, floor = against(theirs.seconds, ours.seconds, BETWEEN_BFLOAT16)
    found.append(
        Row("training", workload, count, "train against trl, both bfloat16", ours.seconds, ratio,
            floor, ours.peak_mib, f"{largest_relative_difference(ours.values, theirs.values):.1e}")
    )  # fmt: skip
    return found
