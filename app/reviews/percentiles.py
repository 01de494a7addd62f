"""The percentile of a value among all values of its measure in a score run."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from app.store.runs import Run
from app.store.score_summaries import summarize_scores
from chesboard.measures.registry import MEASURE_NAMES, MeasureName

Grid = Sequence[float]
"""Values, or their quantiles, in ascending order."""

CACHED_RUNS = 16
_cache: "dict[tuple[int, datetime], dict[MeasureName, Grid]]" = {}
"""Of succeeded score runs, which do not change: half a megabyte to read for each page."""


def percentile(value: float, grid: Grid) -> float:
    """0 for the lowest value, 100 for the highest, as SQL's percent_rank(); 0 for a sole value."""
    if len(grid) < 2:
        return 0.0
    return min(100.0, 100 * bisect_left(grid, value) / (len(grid) - 1))


def grids(session: Session, run: Run) -> dict[MeasureName, Grid]:
    """The grid of each measure that has finite values in the run."""
    # With the creation time: after the database was emptied, ids start from 1 again.
    key = (run.id, run.created_at)
    if key not in _cache:
        while len(_cache) >= CACHED_RUNS:
            _cache.pop(next(iter(_cache)), None)
        found = summarize_scores(session, run).measures
        _cache[key] = {name: grid for name in MEASURE_NAMES if (grid := found[name]["grid"])}
    return _cache[key]
