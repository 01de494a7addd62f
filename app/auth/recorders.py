"""Access tokens of the role recorder that are made on a page: made, listed, deleted, looked up.

They are random and long, so a fast hash of each suffices, and none is stored itself. They begin
with PREFIX, so that no other token costs a look into the database.
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from datetime import datetime

from anyio import to_thread
from pydantic import BaseModel, Field
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.errors import NotFoundError, UnavailableError
from app.store.external import RecorderToken
from app.store.lookup import MAX_ID, there_is_no

PREFIX = "chb_rec_"
REMEMBER_SECONDS = 30.0
"""How long a token that was deleted may still be taken."""
MAX_REMEMBERED = 1000


class RecorderTokenOut(BaseModel):
    id: int
    name: str
    made_by: str
    created_at: datetime


class MadeToken(RecorderTokenOut):
    token: str = Field(description="Shown this once; it is not stored.")


def make(session: Session, name: str, made_by: str) -> MadeToken:
    """A new token, by the operator of that name."""
    token = PREFIX + secrets.token_urlsafe(32)
    row = RecorderToken(name=name, sha256=_hashed(token), made_by=made_by)
    session.add(row)
    session.flush()
    session.refresh(row)
    return MadeToken(**_out(row).model_dump(), token=token)


def list_all(session: Session) -> list[RecorderTokenOut]:
    """Newest first."""
    found = session.scalars(select(RecorderToken).order_by(RecorderToken.id.desc()))
    return [_out(row) for row in found]


def remove(session: Session, token_id: int) -> None:
    """Raises:
    NotFoundError: no such token.
    """
    gone = None
    if 0 < token_id <= MAX_ID:
        statement = delete(RecorderToken).where(RecorderToken.id == token_id)
        gone = session.scalar(statement.returning(RecorderToken.id))
    if gone is None:
        raise NotFoundError(there_is_no("recorder token", token_id))


def _out(row: RecorderToken) -> RecorderTokenOut:
    return RecorderTokenOut(
        id=row.id, name=row.name, made_by=row.made_by, created_at=row.created_at
    )


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class RecorderTokens:
    """The names of the tokens that were looked up lately. Belongs to one event loop."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, tuple[str | None, float]] = OrderedDict()

    def name_of(self, token: str) -> str | None:
        """The name of a token that `prepare` was called with; None: there is no such token."""
        if not token.startswith(PREFIX):
            return None
        name, until = self._names.get(_hashed(token), (None, 0.0))
        return name if until > time.monotonic() else None

    async def prepare(self, token: str) -> None:
        """Look the token up unless that was done lately.

        Raises:
            UnavailableError: the database does not answer: the token may be right.
        """
        if not token.startswith(PREFIX) or self.name_of(token) is not None:
            return
        hashed = _hashed(token)
        try:
            name = await to_thread.run_sync(_find, hashed)
        except SQLAlchemyError:
            raise UnavailableError(
                "The database does not answer, so the token cannot be checked. Try again in a "
                "moment."
            ) from None
        if name is not None:
            self._names[hashed] = (name, time.monotonic() + REMEMBER_SECONDS)
            while len(self._names) > MAX_REMEMBERED:
                self._names.popitem(last=False)


def _find(hashed: str) -> str | None:
    with transaction() as session:
        return session.scalar(select(RecorderToken.name).where(RecorderToken.sha256 == hashed))
