"""odpo's offsets over a dataset: how strong they are, and which pairs have none."""

import numpy as np
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.store.lookup import require_dataset
from app.store.offsets import read_offsets
from chesboard.offsets import Floats, OffsetKind

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
    found = read_offsets(session, dataset_id, kind)
    values = alpha * found.values[~np.isnan(found.values)]
    return Offsets(
        pairs=len(found.pairs),
        unscored=found.reasons["unscored"],
        not_above=found.reasons["not_above"],
        no_ratio=found.reasons["no_ratio"],
        weakened=np.count_nonzero(values < 0),
        strengthened=np.count_nonzero(values > 0),
        columns=list(found.columns.most_common(1)[0][0]) if found.columns else [],
        median=float(np.median(values)) if len(values) else None,
        histogram=_histogram(values),
    )


def _histogram(values: Floats) -> OffsetHistogram:
    if not len(values):
        return OffsetHistogram(start=0, width=1, counts=[])
    low, high = float(values.min()), float(values.max())
    if low == high:
        return OffsetHistogram(start=low - 0.5, width=1, counts=[len(values)])
    counts, _ = np.histogram(values, BINS, (low, high))
    return OffsetHistogram(start=low, width=(high - low) / BINS, counts=counts.tolist())
