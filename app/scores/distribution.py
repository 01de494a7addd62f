"""The distribution of each measure over a run's pairs: statistics, quantiles and a histogram."""

from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session

from app.scores.queries import count_scores, require_scores
from app.scores.schemas import Bin, MeasureSummary, ScoreSummary
from app.store.scores import Score, finite, summarize_measure
from chesboard.measures.registry import MEASURE_NAMES, MeasureName

PERCENTS = (1, 5, 25, 50, 75, 95, 99)
BINS = 40


def summarize(session: Session, run_id: int) -> ScoreSummary:
    """Statistics and a histogram of every measure, over its finite values.

    Raises:
        NotFoundError: no such run, or it is a training run.
    """
    require_scores(session, run_id)
    measures = {name: _summarize(session, run_id, name) for name in MEASURE_NAMES}
    return ScoreSummary(run_id=run_id, total=count_scores(session, run_id), measures=measures)


def _summarize(session: Session, run_id: int, measure: MeasureName) -> MeasureSummary:
    found = summarize_measure(session, run_id, measure, [percent / 100 for percent in PERCENTS])
    return MeasureSummary(
        count=found.finite,
        nonfinite=found.stored - found.finite,
        minimum=found.minimum,
        maximum=found.maximum,
        mean=found.mean,
        quantiles=dict(zip(map(str, PERCENTS), found.quantiles, strict=False)),
        histogram=_histogram(session, run_id, measure, found.minimum, found.maximum),
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
