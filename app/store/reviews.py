"""Tables of reviews: the current verdict on each pair, every change of it, and edited texts.

A pair has one current verdict. Its `version` counts the changes and only ever grows, also when a
verdict is withdrawn, so that a write with an outdated version is detected.
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

from app.core.database import Base, one_of
from chesboard.configs import Verdict


class Review(Base):
    """The current verdict on a pair; NULL if it was withdrawn."""

    __tablename__ = "reviews"
    __table_args__ = (
        one_of("verdict", Verdict),
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
    version: Mapped[int] = mapped_column(doc="Number of changes; the version of the last one.")
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class ReviewBatch(Base):
    """A bulk verdict: one verdict given to many pairs at once, which can be undone at once."""

    __tablename__ = "review_batches"
    __table_args__ = (one_of("verdict", Verdict),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), index=True
    )
    verdict: Mapped[str] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    reviewer: Mapped[str | None] = mapped_column(Text)
    filter: Mapped[dict[str, Any]] = mapped_column(
        JSONB, doc="The QueueFilter that chose the pairs."
    )
    pairs: Mapped[int] = mapped_column(doc="Number of pairs that it changed.")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    undone_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class ReviewChange(Base):
    """One change of a pair's review, with the state after it."""

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
    pair_version: Mapped[int] = mapped_column(doc="Version of the text that the verdict refers to.")
    batch_id: Mapped[int | None] = mapped_column(
        ForeignKey("review_batches.id", ondelete="CASCADE")
    )
    undone_by: Mapped[int | None] = mapped_column(doc="The version that undid this change.")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class PairVersion(Base):
    """One version of a pair's texts. Only edited pairs have rows; version 1 is the file's."""

    __tablename__ = "pair_versions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["dataset_id", "pair"], ["pairs.dataset_id", "pairs.pair"], ondelete="CASCADE"
        ),
    )

    dataset_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    prompt: Mapped[str | list[dict[str, Any]]] = mapped_column(JSONB)
    preferred: Mapped[str] = mapped_column(Text)
    dispreferred: Mapped[str] = mapped_column(Text)
    reviewer: Mapped[str | None] = mapped_column(Text, doc="Who wrote it; NULL for the file's.")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
