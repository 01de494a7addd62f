"""When a request to a server is tried again: exponential backoff, Retry-After."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_BACKOFF = 60.0

# Of its own: the random numbers of a training that is watched are not touched.
_random = random.Random()  # noqa: S311 - spreads requests, guards nothing


def backoff_seconds(attempt: int, first: float) -> float:
    """Seconds to wait after a failed attempt (counted from 1): doubled each time, with jitter, so
    that requests that failed together do not come back together."""
    longest = min(LONGEST_BACKOFF, first * 2.0 ** min(attempt - 1, 64))
    return longest * _random.uniform(0.5, 1.0)


def retry_after_seconds(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks to wait (RFC 9110: a number or a date); None: there
    is none, or it cannot be read."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
