"""odpo's offsets over a dataset: how strong they are, and which pairs have none."""

from array import array
from collections import Counter
from statistics import median

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.store.lookup import require_dataset
from app.store.offsets import read_offsets
from chesboard.offsets import OffsetKind

BINS = 24


class OffsetHistogram(BaseModel):
    """Bins of equal width; empty without a pair that has an offset."""

    start: float
    width: float
    counts: list[int]


class Offsets(BaseModel):
    """alpha times the offset of each of a dataset's pairs, as odpo subtracts it from beta m."""

    pairs: int
    unscored: int = Field(description="Pairs without two scores.")
    not_above: int = Field(
        description="Pairs whose preferred response does not have the higher score."
    )
    no_ratio: int = Field(description="log_ratio: pairs with a score that is not above zero.")
    weakened: int = Field(
        description="Pairs with a negative offset: they are asked for a smaller margin than by dpo."
    )
    strengthened: int = Field(description="Pairs with a positive offset.")
    columns: list[str] = Field(description="Where most pairs have their two scores.")
    median: float | None
    histogram: OffsetHistogram


def summarize_offsets(session: Session, dataset_id: int, alpha: float, kind: OffsetKind) -> Offsets:
    """Raises:
    NotFoundError: no such dataset.
    """
    require_dataset(session, dataset_id)
    values = array("d")
    reasons: Counter[str] = Counter()
    named: Counter[tuple[str, str]] = Counter()
    for _, found in read_offsets(session, dataset_id, kind):
        if found.scores is not None:
            named[found.scores.columns] += 1
        if found.value is not None:
            values.append(alpha * found.value)
        elif found.reason is not None:
            reasons[found.reason] += 1
    return Offsets(
        pairs=len(values) + sum(reasons.values()),
        unscored=reasons["unscored"],
        not_above=reasons["not_above"],
        no_ratio=reasons["no_ratio"],
        weakened=sum(value < 0 for value in values),
        strengthened=sum(value > 0 for value in values),
        columns=list(named.most_common(1)[0][0]) if named else [],
        median=median(values) if values else None,
        histogram=_histogram(values),
    )


def _histogram(values: "array[float]") -> OffsetHistogram:
    if not values:
        return OffsetHistogram(start=0, width=1, counts=[])
    low, high = min(values), max(values)
    if low == high:
        return OffsetHistogram(start=low - 0.5, width=1, counts=[len(values)])
    width = (high - low) / BINS
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / width))] += 1
    return OffsetHistogram(start=low, width=width, counts=counts)
