"""One run under one fault: what is done to it, and what was seen meanwhile."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.stack import TWO_WORKERS, WorkerKind
from tests.chaos.workload import FINAL, SMALL, Runs


@dataclass(slots=True)
class Blow:
    runs: Runs
    run_id: int
    draw: random.Random
    span: float
    """Seconds that an undisturbed run of this kind takes."""
    ahead: list[int] = field(default_factory=list)
    """Runs that workers had taken before this one was queued."""
    small: list[int] = field(default_factory=list)
    """Small runs of somebody else, queued behind it."""
    times: int = 0
    waits: list[float] = field(default_factory=list)
    """Until the run went on, of each time."""
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What must not be, besides numbers that are lost, doubled or different."""

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.problems.append(otherwise)

    def queue_small(self) -> None:
        self.small.append(self.runs.start(SMALL))

    def sleep_until_some_moment(self, share: float) -> None:
        """At random within this share of the run's length."""
        self.sleep(self.draw.uniform(0, share * self.span))

    def sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.runs.stack.tend_workers()
            time.sleep(min(0.05, max(0.0, until - time.monotonic())))

    def until_beyond(self, done: int) -> float | None:
        """Seconds until the run has got further than it had; None: it is over."""
        began = time.monotonic()
        while (row := self.runs.row(self.run_id))["progress_done"] <= done:
            self.runs.stack.tend_workers()
            if row["status"] in FINAL:
                return None
            if time.monotonic() - began > 240:
                raise AssertionError(f"it does not go on: {row}\n{self.runs.stack.words()}")
            time.sleep(0.02)
        return time.monotonic() - began

    def until_it_goes_on(self, done: int) -> None:
        if (seconds := self.until_beyond(done)) is not None:
            self.waits.append(seconds)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long others may be held up, in seconds."""

    p95: float
    worst: float
    """An ask of a bystander, until it is answered."""
    small: float
    """A small run, from the queue to its end."""


PATIENT = Patience(p95=3, worst=15, small=60)


@dataclass(frozen=True, slots=True)
class Fault:
    title: str
    run: str
    """Which of the workload's runs it befalls."""
    strike: Callable[[Blow], None]
    watched: bool = False
    """By a live page's client, which must hear of each step exactly once."""
    page_is_told: bool = False
    """It has to say meanwhile that the database is away."""
    others: Patience = PATIENT
    before: Callable[[Runs], list[int]] | None = None
    """What is done before the run is queued; gives the runs that are under way by then."""
    workers: WorkerKind = TWO_WORKERS
