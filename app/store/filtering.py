"""The table of decisions by which a training run keeps or drops its pairs."""

from sqlalchemy import BigInteger, ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base


class FilterDecision(Base):
    """One pair before one epoch; columns as in `chesboard.records.FilterRecord`."""

    __tablename__ = "filter_decisions"
    __table_args__ = (Index("ix_filter_decisions_run_id_epoch", "run_id", "epoch", "pair"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, doc="Counted from 1; decided before it."
    )
    revision: Mapped[int] = mapped_column(BigInteger)
    text: Mapped[str | None] = mapped_column(Text, doc="The model's answer. Null: none fitted.")
    sample_reward: Mapped[float | None] = mapped_column(doc="Of that answer.")
    preferred_reward: Mapped[float] = mapped_column(doc="Of the preferred response.")
    kept: Mapped[bool] = mapped_column(doc="False: in no epoch from this one on.")
