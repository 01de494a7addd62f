"""Rate limit by token bucket, in the memory of this process and with a bound on its size.

Each request removes a token from its key's bucket; tokens are refilled at a constant rate up to
the burst size. A key's state is one level and one time. Beyond `MAX_KEYS` keys the least recently
used is evicted, and starts with a full bucket if it comes back.
"""

import ipaddress
import threading
import time
from collections import OrderedDict

MAX_KEYS = 10_000


class TokenBuckets:
    """One token bucket per key. Thread-safe."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._rate = per_second
        self._burst = burst
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, key: str, now: float | None = None) -> float:
        """Seconds until a token is available, 0 if one is; takes none."""
        with self._lock:
            level = self._level(key, time.monotonic() if now is None else now)
        return 0.0 if level >= 1 else (1 - level) / self._rate

    def take(self, key: str, now: float | None = None) -> float:
        """Take a token and return 0; if there is none, the seconds until there is."""
        now = time.monotonic() if now is None else now
        with self._lock:
            level = self._level(key, now)
            if level < 1:
                return (1 - level) / self._rate
            self._levels[key] = (level - 1, now)
            self._levels.move_to_end(key)
            while len(self._levels) > MAX_KEYS:
                self._levels.popitem(last=False)
            return 0.0

    def _level(self, key: str, now: float) -> float:
        level, then = self._levels.get(key, (self._burst, now))
        return min(self._burst, level + (now - then) * self._rate)


def address_key(address: str) -> str:
    """The IPv4 address, or the /64 network of an IPv6 address: one host has all 2^64 of it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
