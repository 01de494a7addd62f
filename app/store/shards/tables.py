"""The table of shards: the parts of a run that several workers do at once."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, DateTime, ForeignKey, Integer, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, one_of

ShardStatus = Literal["queued", "running", "done"]


class RunShard(Base):
    """Some pairs of a run, that one worker does at a time. The run's row is locked before its
    shards' are, by whatever changes both."""

    __tablename__ = "run_shards"
    __table_args__ = (one_of("status", ShardStatus),)

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, doc="From 0.")
    pairs: Mapped[list[int]] = mapped_column(ARRAY(Integer), doc="Ordinals, ascending.")
    characters: Mapped[int] = mapped_column(BigInteger, doc="Of their texts.")
    status: Mapped[str] = mapped_column(Text, server_default="queued")
    total: Mapped[int] = mapped_column(
        doc="Pairs, or answers, that are to be done; once the pairs were tokenized, without those "
        "that are left out."
    )
    done: Mapped[int] = mapped_column(server_default=text("0"))
    found: Mapped[dict[str, Any]] = mapped_column(
        JSONB,
        server_default=text("'{}'"),
        doc="Its part of the run's summary: what tokenizing showed, and how it was computed.",
    )

    worker: Mapped[str | None] = mapped_column(Text, doc="Who has it, or had it last.")
    lease_token: Mapped[str | None] = mapped_column(Text)
    lease_expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    tries_here: Mapped[int] = mapped_column(
        server_default=text("0"), doc="Claims since something of it was last stored."
    )
    failed_by: Mapped[list[str]] = mapped_column(
        ARRAY(Text), server_default=text("'{}'"), doc="Workers that failed at it."
    )
    advanced: Mapped[int] = mapped_column(
        server_default=text("0"), doc="Of `done`: by the worker that has it, or had it last."
    )
    seconds: Mapped[float] = mapped_column(
        server_default=text("0"), doc="In which that worker did them, from its model on."
    )
    started_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), doc="When that worker claimed it."
    )
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
