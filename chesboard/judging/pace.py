"""When the next request to a server may start, by its rate limit."""

import asyncio
import time


class Pace:
    """Lets one request start every `60 / per_minute` seconds. For the tasks of one event loop."""

    def __init__(self, per_minute: float | None) -> None:
        """per_minute: None lets all start at once."""
        self._seconds = 60 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def start(self) -> None:
        """Return when the next request may start."""
        while (wait := self._next - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        self._next = time.monotonic() + self._seconds

    def hold(self, seconds: float) -> None:
        """Start no request for so long."""
        self._next = max(self._next, time.monotonic() + seconds)
