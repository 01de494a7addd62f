"""Where a value stands among all of a score run: its percentile.

A score run that has ended does not change, so what is needed for it is kept.
"""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.scores.schemas import MEASURES, Measure
from app.store.runs import Run
from app.store.scores import Score
from app.store.selection import finite

EXACT = 2000
"""Up to so many values all are looked at; of more, as many quantiles, to 0.05 of a percent."""

Grid = Sequence[float]
_kept: "dict[tuple[int, datetime], dict[Measure, Grid]]" = {}
RUNS_KEPT = 16


def percentile(value: float, grid: Grid) -> float:
    """0 for the lowest, 100 for the highest, as percent_rank() has it; 0 where it is alone."""
    if len(grid) < 2:
        return 0.0
    return min(100.0, 100 * bisect_left(grid, value) / (len(grid) - 1))


def grids(session: Session, run: Run) -> dict[Measure, Grid]:
    """Of each measure that has values, these in rising order, or quantiles of them."""
    # By the time as well: a database that was emptied counts its runs from 1 again.
    key = (run.id, run.created_at)
    if key not in _kept:
        while len(_kept) >= RUNS_KEPT:
            _kept.pop(next(iter(_kept)), None)
        _kept[key] = {name: found for name in MEASURES if (found := _grid(session, run.id, name))}
    return _kept[key]


def _grid(session: Session, run_id: int, measure: Measure) -> Grid:
    value = finite(measure)
    there = (Score.run_id == run_id, value.is_not(None))
    count = session.scalar(select(func.count(value)).where(*there)) or 0
    if count <= EXACT:
        ordered = session.scalars(select(value).where(*there).order_by(value))
        return [float(found) for found in ordered if found is not None]
    shares = [number / EXACT for number in range(EXACT + 1)]
    quantiles = select(func.percentile_disc(shares).within_group(value)).where(*there)
    return list(session.scalar(quantiles) or [])
