"""The database session of a request, as a FastAPI dependency."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from app.core.database import snapshot, transaction


def _request_session(request: Request) -> Iterator[Session]:
    with snapshot() if request.method == "GET" else transaction() as session:
        yield session


# "function" scope commits before the response is sent: a client that gets its 201 can read what
# it created.
SessionDep = Annotated[Session, Depends(_request_session, scope="function")]
