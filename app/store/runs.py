"""Tables of runs, their metrics, reference log-probabilities and selections, and of workers.

`revision` counts the writes to one run. Every row carries the revision of its write, so a live
page that reconnects asks for all rows after revision N, in order; a resumed run that repeats a
step overwrites the row and gives it a newer revision.
"""

from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, one_of

Kind = Literal["score", "train", "evaluate", "check", "preflight", "generate", "judge", "external"]
EXTERNAL = "external"
"""The kind of runs that are trained elsewhere: no worker claims them."""
TRAINING: frozenset[str] = frozenset({"train", EXTERNAL})
"""Kinds of runs that train, with probes and curves."""
SHARDED: frozenset[str] = frozenset({"score", "evaluate", "generate"})
"""Kinds of runs that are cut into shards, which all idle workers do at once."""
WITHOUT_SCORES = {
    "train": "training",
    "check": "check",
    "preflight": "pre-flight",
    "generate": "generation",
    "judge": "judge",
    EXTERNAL: "training",
}
"""Kinds of runs that score no pairs, and how a message calls them."""
Status = Literal["queued", "running", "lost", "succeeded", "failed", "cancelled"]
"""lost: nothing was heard of an external run for a while; its training may go on."""
QUIET_AFTER = timedelta(minutes=10)
"""A running run that has reported nothing for so long is said to be quiet. Phases and steps report
within seconds; only a step of a very large model may take longer."""
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
"""Statuses of a run that no worker works on any more; only `resume` leaves them."""


class Run(Base):
    __tablename__ = "runs"
    __table_args__ = (
        one_of("kind", Kind),
        one_of("status", Status),
        # The sweeper reads unfinished runs only.
        Index(
            "ix_runs_unfinished",
            "status",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default="queued")
    dataset_id: Mapped[int | None] = mapped_column(
        ForeignKey("datasets.id"), index=True, doc="Null: an external run over pairs not stored."
    )
    config: Mapped[dict[str, Any]] = mapped_column(JSONB)
    summary: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    messages: Mapped[list[str]] = mapped_column(
        JSONB,
        server_default=text("'[]'"),
        doc="Notices for the user: truncation, a smaller batch after out-of-memory.",
    )
    pair_messages: Mapped[list[str]] = mapped_column(
        JSONB,
        server_default=text("'[]'"),
        doc="Notices that count pairs, of a run that is done in shards: written anew as more of "
        "its pairs are read.",
    )
    error: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB, doc="{message, hint, traceback} of a failed run."
    )
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))

    progress_done: Mapped[int] = mapped_column(server_default=text("0"))
    progress_total: Mapped[int | None]
    progress_unit: Mapped[str] = mapped_column(Text, server_default="steps")
    eta_seconds: Mapped[float | None]

    phase: Mapped[str | None] = mapped_column(
        Text, doc="What the worker is doing, as chesboard.reporting.PhaseName; null: no worker."
    )
    phase_done: Mapped[int | None] = mapped_column(BigInteger, doc="Null: the phase has no count.")
    phase_total: Mapped[int | None] = mapped_column(BigInteger)
    phase_unit: Mapped[str | None] = mapped_column(Text)
    phase_eta_seconds: Mapped[float | None]

    revision: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"), doc="Claims, in total.")
    tries_here: Mapped[int] = mapped_column(
        server_default=text("0"),
        doc="Claims since the last durable progress (a checkpoint, a judged answer).",
    )
    lease_token: Mapped[str | None] = mapped_column(
        Text, doc="Null for a run that is done in shards, which have theirs."
    )
    lease_expires_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), doc="Of a run that is done in shards: the latest of theirs."
    )
    worker: Mapped[str | None] = mapped_column(Text, doc="Who claimed it, or a shard of it, last.")
    device: Mapped[str | None] = mapped_column(Text)

    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    reported_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True),
        doc="When its worker last reported anything: a step, a phase, its progress. A heartbeat "
        "is no report.",
    )
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Metric(Base):
    """Metrics of one optimizer step over its batch. Log-probabilities are sums in nats."""

    __tablename__ = "metrics"
    __table_args__ = (Index("ix_metrics_run_id_revision", "run_id", "revision"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)
    loss: Mapped[float | None]
    margin: Mapped[float | None]
    preferred_logprob: Mapped[float | None]
    dispreferred_logprob: Mapped[float | None]
    preferred_change: Mapped[float | None] = mapped_column(doc="Relative to the reference.")
    dispreferred_change: Mapped[float | None]
    displaced_fraction: Mapped[float | None]
    accuracy: Mapped[float | None] = mapped_column(doc="Fraction of pairs with margin > 0.")
    grad_norm: Mapped[float | None]
    learning_rate: Mapped[float | None]
    tokens_per_second: Mapped[float | None]
    tokens_seen: Mapped[int | None] = mapped_column(BigInteger)
    extra: Mapped[dict[str, float | None] | None] = mapped_column(
        JSONB(none_as_null=True), doc="What else a trainer logged, by its own names."
    )
    recorded_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class ReferenceLogprob(Base):
    """Log-probabilities of each trained pair under the reference model (computed once per run) and
    under the trained model (measured after the last step). Sums in nats."""

    __tablename__ = "reference_logprobs"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    preferred: Mapped[float]
    dispreferred: Mapped[float]
    preferred_tail: Mapped[float | None] = mapped_column(
        doc="Part of the tokens past the length of the other response; null where not needed."
    )
    dispreferred_tail: Mapped[float | None]
    final_preferred: Mapped[float | None] = mapped_column(doc="Null until the run has ended.")
    final_dispreferred: Mapped[float | None]


class RunSelection(Base):
    """The pairs that a run was given, so that it has the same ones when it is resumed."""

    __tablename__ = "run_selections"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    pairs: Mapped[list[int]] = mapped_column(ARRAY(Integer), doc="Ordinals, in their order.")
    versions: Mapped[list[int]] = mapped_column(
        ARRAY(Integer), doc="Text version of each of these pairs, in the same order."
    )
    dataset_pairs: Mapped[int] = mapped_column(doc="Number of pairs of the dataset.")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Worker(Base):
    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    device: Mapped[str] = mapped_column(Text, doc="For people: 'cpu (2 threads)'.")
    run_id: Mapped[int | None] = mapped_column(BigInteger, doc="The run it executes, if any.")
    report: Mapped[dict[str, Any]] = mapped_column(
        JSONB,
        server_default=text("'{}'"),
        doc="Telemetry (worker/telemetry.py): memory, backlog of the recorder.",
    )
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
