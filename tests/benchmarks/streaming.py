"""What scoring takes with one layer of the model in memory at a time, against the whole model."""

from tests.benchmarks.case import STREAMED
from tests.benchmarks.measuring import Row, WrongFigureError, compare

WORKLOADS = {"persona": 120, "dialogues": 24}
WHOLE = "score float32"
LAYERS = f"{STREAMED} float32"


def rows(model: str, asked: list[str], rounds: int) -> list[Row]:
    return [
        row
        for workload, count in WORKLOADS.items()
        if workload in asked
        for row in _rows(workload, count, model, rounds)
    ]


def _rows(workload: str, count: int, model: str, rounds: int) -> list[Row]:
    best = compare(workload, count, [WHOLE, LAYERS], model, rounds)
    whole, layers = best[WHOLE], best[LAYERS]
    if whole.values != layers.values:
        raise WrongFigureError(f"{workload}: the scores differ from those of the whole model")
    return [
        Row("streaming", workload, count, WHOLE, whole.seconds, "", "", whole.peak_mib, ""),
        Row(
            "streaming",
            workload,
            count,
            LAYERS,
            layers.seconds,
            f"x{layers.seconds / whole.seconds:.2f} time",
            "",
            layers.peak_mib,
            "the same to the last bit",
        ),
    ]
