"""How often somebody may ask. Kept in this process, with a bound on what is remembered.

A bucket holds tokens: each request takes one, and they come back at a steady rate. What is
remembered of an address is one number and one time; beyond `MAX_KEYS` the address that was
silent longest is forgotten, and begins with a full bucket again.
"""

import ipaddress
import threading
import time
from collections import OrderedDict

MAX_KEYS = 10_000


class Buckets:
    """One bucket for each key."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._rate = per_second
        self._burst = burst
        self._filled: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, key: str, now: float | None = None) -> float:
        """How long until there is a token; 0 where there is one."""
        with self._lock:
            level = self._level(key, time.monotonic() if now is None else now)
        return 0.0 if level >= 1 else (1 - level) / self._rate

    def take(self, key: str, now: float | None = None) -> float:
        """Take a token and return 0; where there is none, seconds until there is."""
        now = time.monotonic() if now is None else now
        with self._lock:
            level = self._level(key, now)
            if level < 1:
                return (1 - level) / self._rate
            self._filled[key] = (level - 1, now)
            self._filled.move_to_end(key)
            while len(self._filled) > MAX_KEYS:
                self._filled.popitem(last=False)
            return 0.0

    def _level(self, key: str, now: float) -> float:
        level, then = self._filled.get(key, (self._burst, now))
        return min(self._burst, level + (now - then) * self._rate)


def address_key(address: str) -> str:
    """The address, or its network where it is IPv6: there one household has 2^64 of them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
