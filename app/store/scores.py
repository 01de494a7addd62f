"""Tables of scores: a run's measures of each pair, and the pairs flagged for review by them."""

import sys
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
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

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


def is_finite(measure: MeasureName) -> ColumnElement[bool]:
    """NULL where the measure is."""
    column: ColumnElement[float | None] = getattr(Score, measure)
    return column.between(-sys.float_info.max, sys.float_info.max)


def finite(measure: MeasureName) -> ColumnElement[float | None]:
    """A measure's column, NULL where it is NaN or infinite.

    PostgreSQL sorts NaN above every number; as NULL it takes no part in sorting and statistics.
    """
    return case((is_finite(measure), getattr(Score, measure)))
