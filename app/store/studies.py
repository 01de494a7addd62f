"""Tables of studies: their plans and results, and which runs each has made."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, one_of

StudyStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class Study(Base):
    """A plan that makes ordinary runs and goes on as they end (app.studies.engine)."""

    __tablename__ = "studies"
    __table_args__ = (
        one_of("status", StudyStatus),
        # The sweeper reads unfinished studies only.
        Index(
            "ix_studies_unfinished",
            "id",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, doc="As app.studies.kinds registers it.")
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default="queued")
    plan: Mapped[dict[str, Any]] = mapped_column(JSONB, doc="The full plan, defaults filled in.")
    result: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), doc="Tables and curves; null until the last run has ended."
    )
    messages: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'"))
    error: Mapped[str | None] = mapped_column(Text, doc="Why it failed, and what to do.")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class StudyRun(Base):
    """A run that a study made, and its place in the plan: one run a place."""

    __tablename__ = "study_runs"
    __table_args__ = (
        UniqueConstraint("study_id", "cell", "seed", "role"),
        Index("ix_study_runs_run_id", "run_id"),
        Index("ix_study_runs_made_dataset_id", "made_dataset_id"),
    )

    study_id: Mapped[int] = mapped_column(
        ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True
    )
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    cell: Mapped[str] = mapped_column(Text, doc="The cell of the table; empty: serves them all.")
    seed: Mapped[int] = mapped_column(BigInteger)
    role: Mapped[str] = mapped_column(Text, doc="What the run is for, for example 'score'.")
    made_dataset_id: Mapped[int | None] = mapped_column(
        ForeignKey("datasets.id", ondelete="SET NULL"),
        doc="The dataset of pairs that the study made of the answers that the run judged.",
    )
