"""The percentile of a value among all values of its measure in a score run.

The quantiles of succeeded score runs, which do not change, are cached in the process.
"""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.store.runs import Run
from app.store.scores import Score, finite
from chesboard.measures.registry import MEASURE_NAMES, MeasureName

MAX_EXACT = 2000
"""Up to this many values are used exactly; more are reduced to this many quantiles, which gives
percentiles to within 0.05."""

Grid = Sequence[float]
"""Values, or their quantiles, in ascending order."""

CACHED_RUNS = 16
_cache: "dict[tuple[int, datetime], dict[MeasureName, Grid]]" = {}


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
        _cache[key] = {
            name: found for name in MEASURE_NAMES if (found := _grid(session, run.id, name))
        }
    return _cache[key]


def _grid(session: Session, run_id: int, measure: MeasureName) -> Grid:
    value = finite(measure)
    is_scored = (Score.run_id == run_id, value.is_not(None))
    count = session.scalar(select(func.count(value)).where(*is_scored)) or 0
    if count <= MAX_EXACT:
        ordered = session.scalars(select(value).where(*is_scored).order_by(value))
        return [float(found) for found in ordered if found is not None]
    fractions = [number / MAX_EXACT for number in range(MAX_EXACT + 1)]
    quantiles = select(func.percentile_disc(fractions).within_group(value)).where(*is_scored)
    return list(session.scalar(quantiles) or [])
