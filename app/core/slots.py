"""How much of one kind of work is done at a time: in all, and for one person."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.core.errors import TooManyRequestsError

RETRY_SECONDS = 5


class Slots:
    """At most `total` at a time, and half of them for one person, so that one is left for others.

    Nothing waits for a slot: whoever waits would hold a connection meanwhile. Thread-safe.
    """

    def __init__(self, total: int, what: str) -> None:
        """what: in the plural, for the message."""
        self._total = total
        self._each = -(-total // 2)
        self._what = what
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, person: str) -> Iterator[None]:
        """Raises:
        TooManyRequestsError: all are held, or this person holds as many as one may.
        """
        with self._lock:
            self._check(person)
            self._held[person] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[person] -= 1
                if not self._held[person]:
                    del self._held[person]

    def check(self, person: str) -> None:
        """Refuse now what `hold` would refuse, before work is done for it.

        Raises:
            TooManyRequestsError: as `hold`.
        """
        with self._lock:
            self._check(person)

    def _check(self, person: str) -> None:
        if self._held[person] >= self._each:
            self._refuse(f"{self._each} {self._what} of yours are")
        if self._held.total() >= self._total:
            self._refuse(f"{self._total} {self._what} are")

    def _refuse(self, held: str) -> None:
        raise TooManyRequestsError(
            f"{held} under way, which is the limit. Wait until one has ended.", RETRY_SECONDS
        )
