"""The distribution of each measure over a score run's pairs: made once when the run has succeeded,
since its scores do not change any more, and kept.
"""

from typing import Any, TypedDict

from sqlalchemy import ForeignKey, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.database import Base, transaction
from app.store.runs import Run
from app.store.scores import Score, finite
from chesboard.measures.registry import MEASURE_NAMES, MeasureName

PERCENTS = (1, 5, 25, 50, 75, 95, 99)
BINS = 40
MAX_EXACT = 2000
"""Up to this many values are kept; more are reduced to this many quantiles, which gives percentiles
to within 0.05."""


class Bin(TypedDict):
    low: float
    high: float
    count: int


class Distribution(TypedDict):
    """Of the finite values of a measure. nonfinite: how many NaN and infinite ones no other field
    counts. grid: the values, or their quantiles, ascending."""

    count: int
    nonfinite: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    quantiles: dict[str, float]
    histogram: list[Bin]
    grid: list[float]


class KeptSummary(Base):
    __tablename__ = "score_summaries"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    total: Mapped[int] = mapped_column(doc="Number of scored pairs.")
    measures: Mapped[dict[str, Any]] = mapped_column(JSONB, doc="name → Distribution")


def summarize_scores(session: Session, run: Run) -> KeptSummary:
    """As it is kept; made now of a run that goes on or failed, and of those of earlier versions."""
    if run.status != "succeeded":
        return _summarize(session, run.id)
    if (kept := session.get(KeptSummary, run.id)) is not None:
        return kept
    made = _summarize(session, run.id)
    try:
        with transaction() as writing:  # the caller's may only read
            _keep(writing, made)
    except IntegrityError:
        pass  # the run was deleted meanwhile
    return made


def keep_summary(session: Session, run_id: int) -> KeptSummary:
    """Summarize the scores of a run that is about to succeed, for those who will ask."""
    made = _summarize(session, run_id)
    _keep(session, made)
    return made


def _keep(session: Session, made: KeptSummary) -> None:
    values = {"run_id": made.run_id, "total": made.total, "measures": made.measures}
    # A run that failed and was resumed may have had other scores.
    statement = insert(KeptSummary).values(**values)
    session.execute(statement.on_conflict_do_update(index_elements=["run_id"], set_=values))


def _summarize(session: Session, run_id: int) -> KeptSummary:
    total = session.scalar(select(func.count()).where(Score.run_id == run_id)) or 0
    measures = {name: _distribution(session, run_id, name) for name in MEASURE_NAMES}
    return KeptSummary(run_id=run_id, total=total, measures=measures)


def _distribution(session: Session, run_id: int, measure: MeasureName) -> Distribution:
    value = finite(measure)
    # Both kinds of quantiles share one sort.
    percents = [percent / 100 for percent in PERCENTS]
    steps = [number / MAX_EXACT for number in range(MAX_EXACT + 1)]
    row = session.execute(
        select(
            func.count(value).label("finite"),
            func.count(getattr(Score, measure)).label("stored"),
            func.min(value).label("minimum"),
            func.max(value).label("maximum"),
            # Added up in the order of the pairs: a sum is rounded as its order has it, and the rows
            # lie in the order in which workers wrote them.
            func.avg(aggregate_order_by(value, Score.pair.asc())).label("mean"),
            func.percentile_cont(percents).within_group(value).label("quantiles"),
            func.percentile_disc(steps).within_group(value).label("grid"),
        ).where(Score.run_id == run_id)
    ).one()
    grid = row.grid or []
    if row.finite <= MAX_EXACT:
        is_scored = (Score.run_id == run_id, value.is_not(None))
        grid = session.scalars(select(value).where(*is_scored).order_by(value)).all()
    return Distribution(
        count=row.finite,
        nonfinite=row.stored - row.finite,
        minimum=row.minimum,
        maximum=row.maximum,
        mean=row.mean,
        quantiles=dict(zip(map(str, PERCENTS), row.quantiles or [], strict=False)),
        histogram=_histogram(session, run_id, measure, row.minimum, row.maximum),
        grid=list(grid),
    )


def _histogram(
    session: Session, run_id: int, measure: MeasureName, low: float | None, high: float | None
) -> list[Bin]:
    """Equal bins from `low` to `high`; one bin if they are equal, none if they are None."""
    if low is None or high is None:
        return []
    value = finite(measure)
    bins = BINS if high > low else 1
    number = (
        # width_bucket gives the maximum a bin of its own beyond the last: move it into the last.
        func.least(func.width_bucket(value, low, high, bins), bins) if high > low else literal(1)
    )
    found = session.execute(
        select(number.label("bin"), func.count(value))
        .where(Score.run_id == run_id, value.is_not(None))
        .group_by("bin")
    )
    counts = {int(bin_number): int(count) for bin_number, count in found}
    edges = [low + (high - low) * index / bins for index in range(bins)] + [high]
    return [
        Bin(low=edges[index], high=edges[index + 1], count=counts.get(index + 1, 0))
        for index in range(bins)
    ]
