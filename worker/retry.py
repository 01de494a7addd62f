"""Retry transactions with exponential backoff while PostgreSQL is unreachable or full."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.outages import is_disk_full, is_passing
from chesboard.reporting import RunInterruptedError
from worker.lease_keeper import shutting_down

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
LONGEST_OUTAGE_SECONDS = 3600.0
"""After so long a worker gives the run up: when the database is back, the run's lease is over, and
any worker goes on from the run's checkpoint."""

T = TypeVar("T")


def retry_while_unreachable(
    what: str, action: Callable[[], T], give_up: Callable[[], bool] = lambda: False
) -> T:
    """Call `action`, which is one whole transaction, until PostgreSQL could be reached and write.

    A statement that fails for another reason would fail for ever, and is not retried.

    what: names the work in the log.
    give_up: asked after each failure; true ends the retries.

    Raises:
        DBAPIError: it still failed when `give_up()` was true or after LONGEST_OUTAGE_SECONDS, or
            for another reason.
    """
    backoff = FIRST_BACKOFF_SECONDS
    began = time.monotonic()
    while True:
        try:
            return action()
        except DBAPIError as error:
            outage = time.monotonic() - began
            if not is_passing(error) or outage > LONGEST_OUTAGE_SECONDS or give_up():
                raise
            log.warning(
                "%s: %s, next try in %.1f s: %s",
                what,
                "the database's disk is full" if is_disk_full(error) else "no database",
                backoff,
                str(error).splitlines()[0],
            )
            time.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)


def run_with_retry(what: str, work: Callable[[Session], T]) -> T:
    """Run `work` in a transaction of its own, for as long as PostgreSQL is unreachable or full.

    Raises:
        RunInterruptedError: the worker was asked to shut down meanwhile, or it took too long.
    """

    def once() -> T:
        with transaction() as session:
            return work(session)

    try:
        return retry_while_unreachable(what, once, give_up=shutting_down.is_set)
    except DBAPIError as error:
        if not is_passing(error):
            raise
        reason = "the worker is shutting down" if shutting_down.is_set() else "no database"
        raise RunInterruptedError(reason) from error
