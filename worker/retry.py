"""Retry transactions with exponential backoff while PostgreSQL is unreachable."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from psycopg.errors import IdleInTransactionSessionTimeout
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.core.database import transaction
from chesboard.reporting import RunInterruptedError
from worker.lease_keeper import shutting_down

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0

T = TypeVar("T")


def retry_while_unreachable(
    what: str, action: Callable[[], T], give_up: Callable[[], bool] = lambda: False
) -> T:
    """Call `action`, which is one whole transaction, until PostgreSQL could be reached.

    what: names the work in the log.
    give_up: asked after each failure; true ends the retries.

    Raises:
        DBAPIError: still unreachable when `give_up()` was true, or an error of another kind.
    """
    backoff = FIRST_BACKOFF_SECONDS
    while True:
        try:
            return action()
        except DBAPIError as error:
            if not _is_unreachable(error) or give_up():
                raise
            log.warning(
                "%s: the database is unreachable, next try in %.1f s: %s",
                what,
                backoff,
                str(error).splitlines()[0],
            )
            time.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)


def _is_unreachable(error: DBAPIError) -> bool:
    # The server ends idle transactions (app.core.database), as of a process that was suspended:
    # the connection is gone, but its statements were right and can be repeated.
    return isinstance(error, OperationalError | InterfaceError) or isinstance(
        error.orig, IdleInTransactionSessionTimeout
    )


def run_with_retry(what: str, work: Callable[[Session], T]) -> T:
    """Run `work` in a transaction of its own, for as long as PostgreSQL is unreachable.

    Raises:
        RunInterruptedError: the worker was asked to shut down meanwhile.
    """

    def once() -> T:
        with transaction() as session:
            return work(session)

    try:
        return retry_while_unreachable(what, once, give_up=shutting_down.is_set)
    except DBAPIError as error:
        if not _is_unreachable(error):
            raise
        raise RunInterruptedError("the worker is shutting down") from error
