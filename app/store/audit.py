"""The audit log. Rows are only ever added."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Identity, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base


class AuditEvent(Base):
    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_action", "action", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
    action: Mapped[str] = mapped_column(Text, doc="For example 'run.create'.")
    actor: Mapped[str] = mapped_column(Text, doc="The token's name; 'local' where none is set.")
    role: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text, doc="For example 'run 3'; empty: the server.")
    # No foreign keys: the log outlives what it speaks of.
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
