"""A live page's client: it reads a run's events, comes back when it is cut off, and counts."""

import json
import threading
import time
from collections import Counter
from typing import Any

import httpx

from tests.support import OPERATOR_TOKEN, bearer

RETRY_SECONDS = 1.0
"""As the server asks a browser to wait."""

READ_SECONDS = 30.0
"""Keep-alives come every 15."""


class Watcher:
    """Watches a run from its beginning to its end in a thread of its own."""

    def __init__(self, url: str, run_id: int) -> None:
        self._url = f"{url}/api/v1/runs/{run_id}/events"
        self.seen: Counter[tuple[Any, ...]] = Counter()
        """How often each step of the metrics, and each step of each probe, came."""
        self.connections = 0
        self.longest_silence = 0.0
        self.was_told = False
        """That the database does not answer, which the page then says."""
        self._last_id: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether the end of the run was heard of in time."""
        return self._ended.wait(seconds)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._connect()
            except httpx.HTTPError:
                time.sleep(RETRY_SECONDS)

    def _connect(self) -> None:
        headers = bearer(OPERATOR_TOKEN)
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        timeout = httpx.Timeout(5, read=READ_SECONDS)
        with httpx.stream("GET", self._url, headers=headers, timeout=timeout) as answer:
            answer.raise_for_status()
            self.connections += 1
            heard = time.monotonic()
            event: dict[str, str] = {}
            for line in answer.iter_lines():
                if not line:
                    self._take(event)
                    event = {}
                    self.longest_silence = max(self.longest_silence, time.monotonic() - heard)
                    heard = time.monotonic()
                else:
                    name, _, value = line.partition(": ")
                    event[name] = value

    def _take(self, event: dict[str, str]) -> None:
        self._last_id = event.get("id", self._last_id)
        kind, data = event.get("event"), json.loads(event.get("data", "null"))
        if kind == "metric":
            self.seen["metric", data["step"]] += 1
        elif kind == "probe":
            self.seen["probe", data["pair"], data["step"]] += 1
        elif kind == "store":
            self.was_told |= not data["answers"]
        elif kind == "end":
            self._ended.set()
