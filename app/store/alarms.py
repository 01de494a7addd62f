"""Tables of alarms: the rules, what they found, and the messages that are to be sent of it."""

from datetime import datetime
from typing import Literal

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
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, one_of

AlarmKind = Literal[
    "displaced_fraction",
    "opposite_lead",
    "preferred_logprob",
    "loss_not_finite",
    "run_lost",
    "run_failed",
]


class AlarmRule(Base):
    __tablename__ = "alarm_rules"
    __table_args__ = (one_of("kind", AlarmKind),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    run_id: Mapped[int | None] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), index=True, doc="Null: every training run."
    )
    kind: Mapped[str] = mapped_column(Text)
    threshold: Mapped[float | None] = mapped_column(doc="Of the kinds that have one.")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class Alarm(Base):
    """What a rule found in a run. A rule is raised once a run."""

    __tablename__ = "alarms"
    __table_args__ = (
        UniqueConstraint("run_id", "rule_id"),
        one_of("kind", AlarmKind),
        Index("ix_alarms_open", "run_id", postgresql_where=text("acknowledged_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    rule_id: Mapped[int | None] = mapped_column(
        ForeignKey("alarm_rules.id", ondelete="SET NULL"), index=True
    )
    kind: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    step: Mapped[int | None]
    raised_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    acknowledged_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    acknowledged_by: Mapped[str | None] = mapped_column(Text)


class AlarmDelivery(Base):
    """The message of an alarm to one webhook, by its place among the addresses of the settings."""

    __tablename__ = "alarm_deliveries"
    __table_args__ = (
        Index("ix_alarm_deliveries_due", "next_at", postgresql_where=text("next_at IS NOT NULL")),
    )

    alarm_id: Mapped[int] = mapped_column(
        ForeignKey("alarms.id", ondelete="CASCADE"), primary_key=True
    )
    webhook: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    next_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), doc="When to try again; null: sent, or given up."
    )
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    error: Mapped[str | None] = mapped_column(Text, doc="Why the last try failed.")


class AlarmCheck(Base):
    """Up to which revision a run was checked."""

    __tablename__ = "alarm_checks"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
