"""Somebody else, who asks for the health, a page and a small call all the time.

    python -m tests.chaos.bystander ADDRESS TOKEN

A process of its own, so that what makes the fault takes none of its time. It asks until its input
ends, then prints {path: [seconds of each ask]} as one line of JSON.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from tests import PROJECT_ROOT
from tests.benchmarks.crowd import answer

PATHS = {"/healthz": "health", "/runs": "a page", "/api/v1/datasets?limit=5": "a call"}
EVERY_SECONDS = 0.25
RETRY_SECONDS = 0.1
ATTEMPT_SECONDS = 10.0
LAST_SECONDS = 60.0
"""How long the last ask is waited for."""


@dataclass(frozen=True, slots=True)
class Waited:
    """For an answer, in seconds: from when it was due until it came, over as many attempts as that
    took. What became due meanwhile waited, too."""

    seconds: dict[str, list[float]]

    @property
    def worst(self) -> float:
        return max(max(found) for found in self.seconds.values())

    @property
    def p95(self) -> float:
        """Of the path that waited longest."""
        return max(map(_p95, self.seconds.values()))

    def words(self) -> str:
        return ", ".join(
            f"{PATHS[path]} {_p95(found):.2f} / {max(found):.1f}"
            for path, found in self.seconds.items()
        )


def _p95(seconds: list[float]) -> float:
    return (
        statistics.quantiles(seconds, n=20, method="inclusive")[-1]
        if len(seconds) > 1
        else seconds[0]
    )


class Bystander:
    """The parent's side of the process."""

    def __init__(self, url: str, token: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.bystander", url, token],
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def end(self) -> Waited:
        found, _ = self._process.communicate()
        return Waited(json.loads(found))

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


async def _ask_again_and_again(
    address: str, token: str, path: str, over: asyncio.Event
) -> list[float]:
    seconds: list[float] = []
    due = time.monotonic()
    while True:
        is_over = over.is_set()
        gives_up = time.monotonic() + LAST_SECONDS
        while not await _is_answered(address, token, path):
            if over.is_set() and time.monotonic() > gives_up:
                break
            await asyncio.sleep(RETRY_SECONDS)
        now = time.monotonic()
        while due <= now:
            seconds.append(now - due)
            due += EVERY_SECONDS
        if is_over:
            return seconds
        await asyncio.sleep(due - now)


async def _is_answered(address: str, token: str, path: str) -> bool:
    try:
        async with (
            asyncio.timeout(ATTEMPT_SECONDS),
            answer(address, path, f"Authorization: Bearer {token}") as stream,
        ):
            head, _, _ = (await stream.read()).partition(b"\r\n")
    except (OSError, TimeoutError):
        return False
    return head.split()[1:2] == [b"200"]


async def ask(address: str, token: str) -> dict[str, list[float]]:
    over = asyncio.Event()
    asking = [
        asyncio.create_task(_ask_again_and_again(address, token, path, over)) for path in PATHS
    ]
    await asyncio.to_thread(sys.stdin.read)
    over.set()
    return dict(zip(PATHS, await asyncio.gather(*asking), strict=True))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(*sys.argv[1:]))))
