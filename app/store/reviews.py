"""What people decided about pairs: the present verdict, every change of it, and edited texts.

A pair has one present verdict. Its `version` counts the changes and never goes back, not even
when a verdict is withdrawn, so that whoever writes with an old version is told so.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base

VERDICT_CHECK = "verdict IN ('keep', 'drop', 'fix', 'unsure')"


class Review(Base):
    """The present verdict on a pair; NULL where it was withdrawn."""

    __tablename__ = "reviews"
    __table_args__ = (
        CheckConstraint(VERDICT_CHECK, name="verdict"),
        ForeignKeyConstraint(
            ["dataset_id", "pair"], ["pairs.dataset_id", "pairs.pair"], ondelete="CASCADE"
        ),
        Index("ix_reviews_dataset_id_verdict", "dataset_id", "verdict"),
    )

    dataset_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    verdict: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    reviewer: Mapped[str | None] = mapped_column(Text)
    version: Mapped[int] = mapped_column(doc="Counts the changes; that of the last one.")
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class ReviewBatch(Base):
    """Verdicts that were given to many pairs at once, and can be taken back at once."""

    __tablename__ = "review_batches"
    __table_args__ = (CheckConstraint(VERDICT_CHECK, name="verdict"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), index=True
    )
    verdict: Mapped[str] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    reviewer: Mapped[str | None] = mapped_column(Text)
    filter: Mapped[dict[str, Any]] = mapped_column(JSONB, doc="Which pairs were meant.")
    pairs: Mapped[int] = mapped_column(doc="How many were changed.")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    undone_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class ReviewChange(Base):
    """One change of a pair's verdict, with what it was afterwards."""

    __tablename__ = "review_changes"
    __table_args__ = (
        CheckConstraint("action IN ('set', 'bulk', 'edit', 'clear', 'undo')", name="action"),
        ForeignKeyConstraint(
            ["dataset_id", "pair"], ["pairs.dataset_id", "pairs.pair"], ondelete="CASCADE"
        ),
        Index("ix_review_changes_batch_id", "batch_id"),
    )

    dataset_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    action: Mapped[str] = mapped_column(Text)
    verdict: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    reviewer: Mapped[str | None] = mapped_column(Text, doc="Who made this change.")
    pair_version: Mapped[int] = mapped_column(doc="The pair's text that the verdict was about.")
    batch_id: Mapped[int | None] = mapped_column(
        ForeignKey("review_batches.id", ondelete="CASCADE")
    )
    undone_by: Mapped[int | None] = mapped_column(doc="The version that took this change back.")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class PairVersion(Base):
    """A pair's text as it was or is. Only pairs that were edited have rows; 1 is the file's."""

    __tablename__ = "pair_versions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["dataset_id", "pair"], ["pairs.dataset_id", "pairs.pair"], ondelete="CASCADE"
        ),
    )

    dataset_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    prompt: Mapped[str | list[dict[str, str]]] = mapped_column(JSONB)
    preferred: Mapped[str] = mapped_column(Text)
    dispreferred: Mapped[str] = mapped_column(Text)
    reviewer: Mapped[str | None] = mapped_column(Text, doc="Who wrote it; NULL for the file's.")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
