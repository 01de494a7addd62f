"""Sessions that were logged out: their cookies are refused, whoever kept a copy."""

import hashlib
import logging
import math
import time
from datetime import UTC, datetime, timedelta

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from app.auth.tokens import SESSION_SECONDS
from app.core.database import spare_transaction
from app.store import sessions

log = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
"""How long another web process may still take a session that was ended here."""


class EndedSessions:
    """The hashes of the ended sessions' cookies; one per application."""

    def __init__(self) -> None:
        self._hashes: frozenset[str] = frozenset()
        # Ended here: a read that began before then does not know of them.
        self._own: set[str] = set()
        self._read_at = -math.inf

    def __contains__(self, cookie: str) -> bool:
        hashed = _hashed(cookie)
        return hashed in self._hashes or hashed in self._own

    async def refresh(self) -> None:
        """Read them, unless that was done lately. While the database is down the last ones count,
        and nothing that a session is for can be read either."""
        if time.monotonic() - self._read_at < REFRESH_SECONDS:
            return
        if self._hashes or self._read_at > -math.inf:
            self._read_at = time.monotonic()  # the others do not read, too
        try:
            self._hashes = await to_thread.run_sync(_read)
        except SQLAlchemyError as error:
            log.warning("ended sessions were not read: %s", str(error).splitlines()[0])
        self._read_at = time.monotonic()

    def end(self, cookie: str) -> None:
        """Raises:
        SQLAlchemyError: the database does not answer; the session goes on.
        """
        until = datetime.now(UTC) + timedelta(seconds=SESSION_SECONDS)
        with spare_transaction() as session:
            sessions.end(session, _hashed(cookie), until)
        self._own.add(_hashed(cookie))


def _read() -> frozenset[str]:
    with spare_transaction() as session:
        return sessions.read_ended(session)


def _hashed(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()
