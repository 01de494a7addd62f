"""Login sessions that were ended before their time. The others are not stored: their cookies are
signed."""

from datetime import datetime

from sqlalchemy import DateTime, Text, func, select
from sqlalchemy import delete as delete_rows
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.database import Base


class EndedSession(Base):
    __tablename__ = "ended_sessions"

    sha256: Mapped[str] = mapped_column(
        Text, primary_key=True, doc="Of the cookie's value, in hexadecimal."
    )
    until: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), doc="When it would have ended by itself, at the latest."
    )


def end(session: Session, sha256: str, until: datetime) -> None:
    """Idempotent. Forgets those that would have ended by now."""
    session.execute(delete_rows(EndedSession).where(EndedSession.until < func.now()))
    row = {"sha256": sha256, "until": until}
    session.execute(insert(EndedSession).values(row).on_conflict_do_nothing())


def read_ended(session: Session) -> frozenset[str]:
    return frozenset(session.scalars(select(EndedSession.sha256)))
