"""The audit log's table, and appending to it. Rows are never changed or deleted."""

import logging
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Identity, Index, Text, func, insert, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.database import Base, spare_transaction

log = logging.getLogger(__name__)


class AuditEvent(Base):
    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_action", "action", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    action: Mapped[str] = mapped_column(Text, doc="For example 'run.create'.")
    actor: Mapped[str] = mapped_column(Text, doc="The token's name; 'local' without tokens.")
    role: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text, doc="For example 'run 3'; empty: the server.")
    # No foreign keys: an event outlives its subject.
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append; columns as in AuditEvent."""

    action: str
    actor: str = ""
    role: str = ""
    address: str = ""
    subject: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def record(event: NewEvent) -> None:
    """Append an event in a transaction of its own.

    Never raises on a database error: the change that it records is committed already, so the
    event goes to the server log instead.
    """
    try:
        record_first(event)
    except SQLAlchemyError as error:
        log.error("not in the audit log: %s (%s)", asdict(event), str(error).splitlines()[0])


def record_first(event: NewEvent) -> None:
    """Append an event of what is done only once it is recorded.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    with spare_transaction() as session:
        add(session, event)


def add(session: Session, event: NewEvent) -> None:
    """Append an event in the caller's transaction."""
    session.execute(insert(AuditEvent), [asdict(event)])
