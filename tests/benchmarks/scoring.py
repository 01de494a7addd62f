"""Scoring, against one pair at a time with two full forwards and all logits."""

from tests.benchmarks.measuring import (
    Row,
    against,
    compare,
    largest_difference_of_median,
    largest_relative_difference,
    spearman,
)

COUNTS = {"persona": 120, "dialogues": 120, "long prompts": 6}
FLOORS = {"score float32": 2.4, "score bfloat16": 6.5}
LEAST_SPEARMAN = 0.999
BASELINE = "baseline float32"


def rows(model: str, workloads: list[str], rounds: int) -> list[Row]:
    return [row for workload in workloads for row in _rows(workload, model, rounds)]


def _rows(workload: str, model: str, rounds: int) -> list[Row]:
    count = COUNTS[workload]
    best = compare(workload, count, [BASELINE, *FLOORS], model, rounds)
    base = best[BASELINE]
    found = []
    for case, mine in best.items():
        ratio, floor = against(base.seconds, mine.seconds, FLOORS.get(case))
        if floor.endswith("missed") and mine.least_seconds:
            floor += f" (products alone: {base.seconds / mine.least_seconds:.1f})"
        if case == BASELINE:
            agreement = ""
        elif case.endswith("bfloat16"):
            agreement = _rank_agreement(spearman(mine.values, base.values))
        else:
            of_value = largest_relative_difference(mine.values, base.values)
            of_median = largest_difference_of_median(mine.values, base.values)
            agreement = f"{of_value:.1e} ({of_median:.1e} of the median)"
        found.append(
            Row("scoring", workload, count, case, mine.seconds, ratio, floor, mine.peak_mib,
                agreement)
        )  # fmt: skip
    return found


def _rank_agreement(found: float) -> str:
    missed = "" if found >= LEAST_SPEARMAN else f" ({LEAST_SPEARMAN} missed)"
    return f"Spearman {found:.4f}{missed}"
