"""Waiting before a request is tried again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from chesboard.retrying import LONGEST_BACKOFF, backoff_seconds, retry_after_seconds


def test_backoff_doubles_up_to_a_limit():
    for attempt in range(1, 12):
        longest = min(LONGEST_BACKOFF, 0.5 * 2 ** (attempt - 1))
        assert longest / 2 <= backoff_seconds(attempt, 0.5) <= longest


def test_retry_after_is_a_number_of_seconds_or_a_date():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    later = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert retry_after_seconds("30") == 30
    assert retry_after_seconds(later, now) == 90
    assert retry_after_seconds(later, now + timedelta(hours=1)) == 0
    assert retry_after_seconds("soon") is None
    assert retry_after_seconds(None) is None
