"""When to try again: exponentially longer, with jitter, and never before the server says."""

from chesboard.retrying import backoff_seconds

LEAST_SECONDS = 1.0
MOST_ASKED_SECONDS = 600.0
"""Waits at most so long, whatever a server asks for."""


class Backoff:
    """Seconds between tries: 1, 2, 4, … 60, each between half of that and all of it."""

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, retry_after: float | None) -> float:
        """Seconds to wait after a failure."""
        self._failures += 1
        wait = backoff_seconds(self._failures, LEAST_SECONDS)
        return max(wait, min(retry_after or 0.0, MOST_ASKED_SECONDS))
