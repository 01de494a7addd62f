"""`chesboard sync`: send what spools hold, whether their trainings go on or not."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chesboard.client.delivery import Delivery, claimed
from chesboard.client.pace import Backoff
from chesboard.client.spool import runs
from chesboard.client.wire import RefusedError, UnreachableError, Wire

WATCH_SECONDS = 2.0
MOST_TRIES = 5
"""Failures in a row after which a run is given up, unless it is watched."""


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of one run."""

    folder: Path
    page: str | None
    problem: str | None
    """Why not everything was sent."""
    ended: bool


def sync(
    folder: Path,
    wire: Wire,
    *,
    watch: bool,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> list[Synced]:
    """Send all runs at or below a folder. With `watch` until each has ended or is refused."""
    done: dict[Path, Synced] = {}
    while True:
        for run in runs(folder):
            if run not in done or (done[run].problem is None and not done[run].ended):
                done[run] = _one(run, wire, patient=watch, say=say, sleep=sleep)
        if not watch or (done and all(one.ended or one.problem for one in done.values())):
            return list(done.values())
        sleep(WATCH_SECONDS)


def _one(
    run: Path,
    wire: Wire,
    *,
    patient: bool,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> Synced:
    with claimed(run) as mine:
        if not mine:
            return Synced(run, None, "Its training is sending it.", ended=False)
        delivery, backoff, tries = Delivery(run, wire), Backoff(), 0
        while True:
            try:
                while delivery.send_some():
                    tries = 0
                    backoff.succeeded()
                delivery.heartbeat()
                return Synced(run, delivery.at.url, None, delivery.at.ended)
            except UnreachableError as error:
                tries += 1
                if tries == 1:
                    say(f"{error}. Trying again.")
                if tries == MOST_TRIES and not patient:
                    return Synced(run, delivery.at.url, str(error), ended=False)
                sleep(backoff.failed(error.retry_after))
            except RefusedError as error:
                return Synced(run, delivery.at.url, error.with_advice, ended=False)
