"""Several workers in one process: threads, each with a model, a lease keeper and a recorder of its
own, and what befalls them. `make chaos` kills real ones."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select

from app.core.database import transaction
from app.core.settings import get_settings
from app.store import leases, queue
from app.store.recording import StaleLeaseError
from app.store.runs import Run
from app.store.shards import claims, planning, reference
from app.store.shards.tables import RunShard
from chesboard.reporting import LeaseLostError
from tests.app.rows import stored
from worker.execution import execute
from worker.lease_keeper import LeaseKeeper
from worker.models.cache import ModelCache

WORDS = ["Yes", "No", "In the end", "There is none", "a", "Never, ever"]
SHORT_PAIRS = [
    (
        f"Is it {'not ' * (number % 7)}number {number}?",
        f"{WORDS[number % 6]} {'and so on ' * (number % 4)}",
        f"{WORDS[(number + 1) % 6]} {'or not ' * (number % 3)}",
    )
    for number in range(60)
]


@pytest.fixture
def small_shards_and_short_leases(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(planning, "CHARACTERS_A_SHARD", 500)
    monkeypatch.setattr(planning, "PAIRS_A_SHARD", 6)
    monkeypatch.setenv("CHESBOARD_LEASE", "PT1S")
    monkeypatch.setenv("CHESBOARD_HEARTBEAT", "PT0.2S")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def models_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers loads with settings of the whole process: two threads at once break each other's
    models. Worker processes do not."""
    lock, really = threading.Lock(), ModelCache.load

    def load(cache: ModelCache, *arguments: Any) -> Any:
        with lock:
            return really(cache, *arguments)

    monkeypatch.setattr(ModelCache, "load", load)


def wait_for(run_id: int, names: tuple[str, ...], seconds: float = 60) -> Run:
    """Workers of these names do what there is, as a worker's process does, until the run is over;
    the sweeper comes by."""
    is_over, problems = threading.Event(), []

    def work(name: str) -> None:
        models = ModelCache(get_settings())
        while not is_over.is_set():
            try:
                with transaction() as session:
                    waiting = queue.next_claimable(session, name, get_settings().lease)
                if waiting is None or not execute(waiting, name, models):
                    time.sleep(0.05)
            except Exception as error:
                problems.append(error)
                return

    workers = [threading.Thread(target=work, args=[name]) for name in names]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + seconds
    while (run := stored(run_id)).status in ("queued", "running"):
        assert time.monotonic() < deadline, (run.status, run.messages)
        with transaction() as session:
            claims.expire(session)
            reference.expire(session)
            leases.expire(session)
        time.sleep(0.05)
    is_over.set()
    for worker in workers:
        worker.join()
    assert problems == []
    return run


def done_by(run_id: int) -> Counter[str | None]:
    with transaction() as session:
        return Counter(session.scalars(select(RunShard.worker).where(RunShard.run_id == run_id)))


FROZEN_LEASES = 2.5
"""Long enough that also a lease is over which is renewed after the freeze began, by a write of what
was computed before."""


class Harm:
    """What befalls workers at their n-th look at a lease, counted over all of them."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        kills: list[int],
        freezes: list[int],
        kept: ModuleType,
        writes: tuple[ModuleType, str],
    ):
        """kept: where the leases are kept that are meant. writes: the function that writes under
        the lease of a shard, its third argument."""
        self._checks, self._lock = 0, threading.Lock()
        self._kills, self._freezes = set(kills), set(freezes)
        self.refused: list[str] = []
        """Tokens of leases that were lost to another worker and written under all the same."""
        really = LeaseKeeper.check

        def check(keeper: LeaseKeeper) -> None:
            if keeper._kept is not kept:
                really(keeper)
                return
            with self._lock:
                self._checks += 1
                number = self._checks
            if number in self._kills:
                # Nothing more is stored, nothing handed back: its lease has to run out.
                self._silence(keeper)
                raise LeaseLostError("killed")
            if number in self._freezes:
                self._silence(keeper)
                time.sleep(FROZEN_LEASES * get_settings().lease.total_seconds())
                return  # and goes on as if nothing had happened
            really(keeper)

        monkeypatch.setattr(LeaseKeeper, "check", check)
        module, name = writes
        hold = getattr(module, name)

        def counted(*arguments: Any, **named: Any) -> int:
            try:
                return hold(*arguments, **named)
            except StaleLeaseError:
                self.refused.append(arguments[2])
                raise

        monkeypatch.setattr(module, name, counted)

    @staticmethod
    def _silence(keeper: LeaseKeeper) -> None:
        """No heartbeat any more."""
        keeper._stop.set()
        keeper._thread.join()
