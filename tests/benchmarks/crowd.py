"""Many people at one server, in a process of their own so that they take none of its time.

    python -m tests.benchmarks.crowd watch ADDRESS RUN COUNT
    python -m tests.benchmarks.crowd ask ADDRESS RATE SECONDS PATH...

Each prints what it saw as one line of JSON. `watch` prints "ready" before, once all are connected.
HTTP is written out here, since clients that do more of it are slower than the server.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

RECONNECT_EVERY = 10
"""One watcher in so many loses its connection once, and comes back as a browser does."""
RECONNECT_AFTER = 50
LONGEST_LINE = 16 << 20


@asynccontextmanager
async def answer(address: str, path: str, *headers: str) -> AsyncIterator[asyncio.StreamReader]:
    """The answer to a GET, from its first line on. In HTTP/1.0 it ends with the connection."""
    server = urlsplit(address)
    reader, writer = await asyncio.open_connection(server.hostname, server.port, limit=LONGEST_LINE)
    try:
        lines = (f"GET {path} HTTP/1.0", f"Host: {server.netloc}", *headers, "", "")
        writer.write("\r\n".join(lines).encode())
        yield reader
    finally:
        writer.close()


@dataclass
class Watcher:
    """Follows a run's events as the page does: (step, seconds since the epoch) of each metric, and
    (pair, step) of each probe."""

    address: str
    path: str
    loses_connection: bool
    seen: list[tuple[int, float]] = field(default_factory=list)
    probes: list[tuple[int, int]] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    _last: str = "0"
    _over: bool = False

    async def follow(self) -> None:
        while not self._over:
            async with answer(self.address, self.path, f"Last-Event-ID: {self._last}") as stream:
                await self._read(stream)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        event = identifier = ""
        while line := (await stream.readline()).decode().rstrip():
            pass  # the head
        while line := (await stream.readline()).decode():
            self.connected.set()
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "id":
                identifier = value
            elif name == "event":
                event = value
            elif name == "data":
                self._take(event, value)
                self._last = identifier or self._last
            if self._over or (self.loses_connection and len(self.seen) == RECONNECT_AFTER):
                self.loses_connection = False
                return

    def _take(self, event: str, data: str) -> None:
        if event == "metric":
            self.seen.append((json.loads(data)["step"], time.time()))
        elif event == "probe":
            row = json.loads(data)
            self.probes.append((row["pair"], row["step"]))
        self._over = event == "end"


async def watch(address: str, run: int, count: int) -> list[dict[str, Any]]:
    events = f"/api/v1/runs/{run}/events"
    watchers = [Watcher(address, events, number % RECONNECT_EVERY == 0) for number in range(count)]
    following = [asyncio.create_task(watcher.follow()) for watcher in watchers]
    await asyncio.gather(*(watcher.connected.wait() for watcher in watchers))
    print("ready", flush=True)
    await asyncio.gather(*following)
    return [
        {"loses_connection": number % RECONNECT_EVERY == 0, "seen": one.seen, "probes": one.probes}
        for number, one in enumerate(watchers)
    ]


async def ask(
    address: str, rate: float, seconds: float, paths: list[str]
) -> list[tuple[str, int, float]]:
    """(path, status or 0, milliseconds since it was due) of `rate` requests a second.

    They are sent when they are due, whatever became of those before: a server that falls behind
    cannot slow its visitors down.
    """

    async def one(path: str, due: float) -> tuple[str, int, float]:
        await asyncio.sleep(due - time.perf_counter())
        try:
            async with answer(address, path, "Accept-Encoding: gzip") as stream:
                head, _, _ = (await stream.read()).partition(b"\r\n")
            status = int(head.split()[1])
        except (OSError, IndexError):
            status = 0
        return path, status, 1000 * (time.perf_counter() - due)

    start = time.perf_counter() + 0.1
    return await asyncio.gather(
        *(
            one(paths[number % len(paths)], start + number / rate)
            for number in range(int(rate * seconds))
        )
    )


def main(what: str, address: str, *more: str) -> None:
    if what == "watch":
        found: object = asyncio.run(watch(address, int(more[0]), int(more[1])))
    else:
        found = asyncio.run(ask(address, float(more[0]), float(more[1]), list(more[2:])))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
