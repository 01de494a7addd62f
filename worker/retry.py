"""Waiting for a database that is away."""

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


def until_the_database_answers(
    what: str, action: Callable[[], T], give_up: Callable[[], bool] = lambda: False
) -> T:
    """Call `action`, which is one whole transaction, again and again until the database is there.

    Raises:
        DBAPIError: still away when `give_up()` became true, or it answered with an error.
    """
    backoff = FIRST_BACKOFF_SECONDS
    while True:
        try:
            return action()
        except DBAPIError as error:
            if not _is_away(error) or give_up():
                raise
            log.warning(
                "%s: the database is away, next try in %.1f s: %s",
                what,
                backoff,
                str(error).splitlines()[0],
            )
            time.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)


def _is_away(error: DBAPIError) -> bool:
    # A process that was frozen finds that its transaction was ended meanwhile: the connection is
    # gone, and nothing is wrong with what it did there.
    return isinstance(error, OperationalError | InterfaceError) or isinstance(
        error.orig, IdleInTransactionSessionTimeout
    )


def run_with_retry(what: str, work: Callable[[Session], T]) -> T:
    """Do `work` in a transaction, however long the database is away.

    Raises:
        RunInterruptedError: the worker was asked to stop meanwhile.
    """

    def once() -> T:
        with transaction() as session:
            return work(session)

    try:
        return until_the_database_answers(what, once, give_up=shutting_down.is_set)
    except DBAPIError as error:
        if not _is_away(error):
            raise
        raise RunInterruptedError("the worker is shutting down") from error
