"""Token buckets, with the time given by hand."""

import pytest

from app.core import rate_limit
from app.core.rate_limit import TokenBuckets, address_key


def test_a_burst_and_then_the_rate() -> None:
    buckets = TokenBuckets(per_second=2, burst=3)
    assert [buckets.take("a", 100) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 100) == pytest.approx(0.5)
    assert buckets.take("b", 100) == 0
    assert buckets.take("a", 100.5) == 0
    assert buckets.take("a", 100.6) == pytest.approx(0.4)


def test_silence_fills_a_bucket_no_higher_than_the_burst() -> None:
    buckets = TokenBuckets(per_second=1, burst=2)
    buckets.take("a", 0)
    assert [buckets.take("a", 1000) for _ in range(3)] == [0, 0, 1]


def test_looking_takes_nothing() -> None:
    buckets = TokenBuckets(per_second=1, burst=1)
    assert [buckets.wait_seconds("a", 0) for _ in range(5)] == [0] * 5
    buckets.take("a", 0)
    assert buckets.wait_seconds("a", 0.25) == pytest.approx(0.75)


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "MAX_KEYS", 10)
    buckets = TokenBuckets(per_second=1, burst=1)
    for number in range(100):
        buckets.take(str(number), 0)
    assert len(buckets._levels) == 10
    # The latest are kept.
    assert buckets.wait_seconds("99", 0) == 1


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_addresses_of_one_household_count_as_one(address: str, key: str) -> None:
    assert address_key(address) == key
