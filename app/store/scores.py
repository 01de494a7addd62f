"""Tables of scores: a run's measures of each pair, and the pairs flagged for review by them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Text,
    case,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.database import Base
from chesboard.measures.registry import MeasureName


class Score(Base):
    __tablename__ = "scores"
    __table_args__ = (Index("ix_scores_run_id_ches", "run_id", "ches"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ches: Mapped[float | None]
    ln_ches: Mapped[float | None]
    last_hidden_inner_product: Mapped[float | None]
    normalized_edit_distance: Mapped[float | None]
    preferred_logprob: Mapped[float | None]
    dispreferred_logprob: Mapped[float | None]
    implicit_gap: Mapped[float | None]
    length_gap: Mapped[float | None]
    head_shift: Mapped[float | None]
    head_cosine: Mapped[float | None]
    preferred_grad_norm: Mapped[float | None]
    dispreferred_grad_norm: Mapped[float | None]
    preferred_tokens: Mapped[int]
    dispreferred_tokens: Mapped[int]
    prompt_tokens: Mapped[int]
    cut_tokens: Mapped[int] = mapped_column(
        doc="Tokens truncated from prompt and responses together."
    )
    preferred_ends: Mapped[list[int]] = mapped_column(
        ARRAY(Integer),
        doc="Offset of the end of each token in the response's text, in characters.",
    )
    dispreferred_ends: Mapped[list[int]] = mapped_column(ARRAY(Integer))


class Flag(Base):
    """A pair in the dataset's queue for review, chosen by a measure of a score run."""

    __tablename__ = "flags"

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    score_run: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    measure: Mapped[str] = mapped_column(Text)
    value: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


def finite(measure: MeasureName) -> ColumnElement[float | None]:
    """A measure's column, NULL where it is NaN or infinite.

    PostgreSQL sorts NaN above every number; as NULL it takes no part in sorting and statistics.
    """
    column = getattr(Score, measure)
    return case((column.between(-sys.float_info.max, sys.float_info.max), column))


@dataclass(frozen=True, slots=True)
class MeasureSummary:
    """Of a measure over a run's pairs. stored: pairs that have it. finite: those whose value is,
    over which the others are; None without one."""

    stored: int
    finite: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    quantiles: Sequence[float]
    """Interpolated; empty without a finite value."""


def summarize_measure(
    session: Session, run_id: int, measure: MeasureName, fractions: Sequence[float]
) -> MeasureSummary:
    """fractions: of the quantiles, in [0, 1]."""
    value = finite(measure)
    row = session.execute(
        select(
            func.count(getattr(Score, measure)).label("stored"),
            func.count(value).label("finite"),
            func.min(value).label("minimum"),
            func.max(value).label("maximum"),
            # Added up in the order of the pairs: a sum is rounded as its order has it, and the
            # rows lie in the order in which workers wrote them.
            func.avg(aggregate_order_by(value, Score.pair.asc())).label("mean"),
            func.percentile_cont(list(fractions)).within_group(value).label("quantiles"),
        ).where(Score.run_id == run_id)
    ).one()
    return MeasureSummary(**{**row._mapping, "quantiles": row.quantiles or []})
