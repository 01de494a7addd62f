"""What the measures at the output head cost: scoring with them, against without."""

from tests.benchmarks.case import WITHOUT_HEAD
from tests.benchmarks.measuring import Row, compare
from tests.benchmarks.workloads import ANSWERS, PUBLIC, SHARED

COUNTS = dict(zip(ANSWERS, (120, 16), strict=True))
MOST = 1.3
WITH_HEAD = "score float32"


def rows(model: str, _: list[str], rounds: int) -> list[Row]:
    here = [name for name in ANSWERS if SHARED.is_dir() or name not in PUBLIC]
    return [row for workload in here for row in _rows(workload, model, rounds)]


def _rows(workload: str, model: str, rounds: int) -> list[Row]:
    count = COUNTS[workload]
    best = compare(workload, count, [WITHOUT_HEAD, WITH_HEAD], model, rounds)
    base, mine = best[WITHOUT_HEAD].seconds, best[WITH_HEAD].seconds
    most = f"x{MOST} time at most"
    return [
        Row("head", workload, count, case, found.seconds, ratio, floor, found.peak_mib, "")
        for (case, found), ratio, floor in zip(
            best.items(),
            ("", f"x{mine / base:.2f} time"),
            ("", most if mine <= MOST * base else f"{most}, missed"),
            strict=True,
        )
    ]
