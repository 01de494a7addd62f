"""One model trained by two workers, each with one process: as it would be on two machines.

Workers are real ones where one is killed, and else threads with a model cache of their own.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch.distributed as dist
from sqlalchemy import select

from app.core.broker import enqueue
from app.core.database import transaction
from app.core.settings import get_settings
from app.pages.filters import phase as phase_in_words
from app.runs.schemas import RunOut
from app.store import seats
from app.store.runs import Run, Worker
from tests import PROJECT_ROOT
from tests.app import factories
from tests.app.rows import stored
from tests.jobs.test_ranks import PAIRS, STEPS, queued, same_numbers, steps_done
from tests.support import eventually
from worker import seats as worker_seats
from worker.execution import execute
from worker.models.cache import ModelCache
from worker.training import checkpoints

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")

SECONDS = 120
"""For a worker to start, or for steps to be done, on a busy machine."""


@pytest.fixture(autouse=True)
def _two_seats(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        "CHESBOARD_SEATS": "2",
        "CHESBOARD_SEAT_HOST": "127.0.0.1",
        "CHESBOARD_LEASE": "PT5S",
        "CHESBOARD_HEARTBEAT": "PT0.5S",
    }.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@contextmanager
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a worker that needs no other."""
    with monkeypatch.context() as context:
        context.setenv("CHESBOARD_SEATS", "1")
        get_settings.cache_clear()
        yield
    get_settings.cache_clear()


@contextmanager
def at_work(run_id: int, *names: str) -> Iterator[None]:
    """Workers of these names execute a run, the first first; until they all have ended."""
    problems: list[BaseException] = []

    def work(name: str) -> None:
        try:
            execute(run_id, name, ModelCache(get_settings()))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=[name]) for name in names]
    threads[0].start()
    eventually(lambda: sitting(run_id) == [names[0]])
    for thread in threads[1:]:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(SECONDS)
    assert problems == []
    assert not any(thread.is_alive() for thread in threads)


def dataset() -> int:
    with transaction() as session:
        return factories.dataset(session, pairs=PAIRS).id


def announce(*names: str) -> None:
    """Live workers that have runs."""
    with transaction() as session:
        for name in names:
            report = {"gpus": 1, "seats": 2}
            session.add(Worker(name=name, device="cpu", run_id=7, report=report))


def sitting(run_id: int) -> list[str]:
    """The workers on the seats of a run."""
    with transaction() as session:
        run = session.get_one(Run, run_id)
        found = seats.read(session, run_id, run.lease_token or "")
    return [seat.worker for seat in found if seat.worker is not None]


def phase(run_id: int) -> tuple[Any, ...]:
    run = stored(run_id)
    return run.phase, run.phase_done, run.phase_total, run.phase_unit


def left_over() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "worker.ranks" in p.cmdline()]


@contextmanager
def started(folder: Path, count: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Workers as a user starts them, once they answer."""
    processes = []
    with transaction() as session:
        before = set(session.scalars(select(Worker.name)))
    try:
        for number in range(count):
            with (folder / f"worker-{number}.log").open("wb") as output:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "app.cli", "worker", "--seats", "2"],
                        cwd=PROJECT_ROOT,
                        env={**os.environ, "OMP_NUM_THREADS": "1"},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        eventually(lambda: len(live_workers() - before) == count, SECONDS)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for log in sorted(folder.glob("worker-*.log")):  # shown where a test fails
            sys.stderr.write(f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}")


def live_workers() -> set[str]:
    with transaction() as session:
        return set(session.scalars(select(Worker.name)))


def holder(run_id: int, seat: int) -> int:
    """The process of the worker on a seat."""
    return int(sitting(run_id)[seat].rpartition("-")[2])


def is_waiting(run_id: int) -> bool:
    return phase(run_id) == ("waiting for seats", 1, 2, "taken")


def test_killed_and_stopped_on_two_seats_it_is_the_undisturbed_run_of_one_worker(
    database: Any, models: ModelCache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset_id = dataset()
    calm = queued(dataset_id)
    with alone(monkeypatch):
        assert execute(calm, "ada", models)
    folder: Path = get_settings().run_path(calm + 1)

    with started(tmp_path, 3):
        run_id = queued(dataset_id)
        enqueue(run_id)
        eventually(lambda: steps_done(run_id) >= 8, SECONDS)
        second = holder(run_id, 1)
        os.kill(second, signal.SIGKILL)
        # The other goes on from the checkpoint with the third, in a new attempt.
        eventually(lambda: stored(run_id).attempts == 2, SECONDS)
        assert checkpoints.exists(folder)
        after = steps_done(run_id)
        assert 8 <= after < STEPS - 8
        eventually(lambda: steps_done(run_id) >= after + 4, SECONDS)
        run = stored(run_id)
        assert run.device is not None
        assert run.device.startswith("2 processes of 2 workers, first on cpu")
        third = holder(run_id, 1)
        assert third != second

        # One is asked to end: a checkpoint is written after the step, and no try counted.
        os.kill(third, signal.SIGTERM)
        eventually(lambda: is_waiting(run_id), SECONDS)
        stopped_at = steps_done(run_id)
        assert after + 4 <= stopped_at < STEPS
        assert sitting(run_id)[1:] == []
        os.kill(holder(run_id, 0), signal.SIGTERM)
        eventually(lambda: stored(run_id).status == "queued", SECONDS)
        assert stored(run_id).attempts == 1  # that of the killed one
    with alone(monkeypatch):
        assert execute(run_id, "grace", models)
    run = stored(run_id)
    assert (run.status, run.attempts) == ("succeeded", 2), run.error
    assert not checkpoints.exists(folder)
    assert list(folder.glob(".seats-*")) == []
    same_numbers(run_id, calm)


def test_a_cancel_reaches_both_seats(database: Any, models: ModelCache) -> None:
    run_id = queued(dataset())
    with at_work(run_id, "ada", "grace"):
        eventually(lambda: steps_done(run_id) >= 3, SECONDS)
        cancel(run_id)
    run = stored(run_id)
    assert (run.status, run.error, run.attempts) == ("cancelled", None, 1)
    assert 3 <= steps_done(run_id) < STEPS
    assert sitting(run_id) == []
    assert left_over() == []


def test_a_seat_that_never_comes_is_said_and_ends_the_run(
    database: Any, models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHESBOARD_SEAT_TIMEOUT", "PT2S")
    get_settings.cache_clear()
    run_id = queued(dataset())
    announce("ada")
    with at_work(run_id, "ada"):
        eventually(lambda: is_waiting(run_id))
        shown = RunOut.of(stored(run_id), None, None)
        assert phase_in_words(shown) == "waiting for seats: 1 of 2 taken"
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["message"] == (
        "The run needs 2 workers that were started with `chesboard worker --gpus 1 --seats 2`, "
        "and for 2 s only 1 was there (CHESBOARD_SEAT_TIMEOUT). Start the others, or a worker "
        "without --seats, and resume the run."
    )
    assert sitting(run_id) == []


def test_while_others_are_there_but_busy_a_run_waits_for_them(
    database: Any, models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHESBOARD_SEAT_TIMEOUT", "PT0.5S")
    get_settings.cache_clear()
    run_id = queued(dataset())
    announce("ada", "grace")
    with at_work(run_id, "ada"):
        eventually(lambda: is_waiting(run_id))
        time.sleep(1.5)
        assert is_waiting(run_id)
        cancel(run_id)
    assert stored(run_id).status == "cancelled"


def test_a_worker_that_cannot_take_part_fails_the_run_and_says_why(
    database: Any, models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*_: Any) -> None:
        raise ValueError("it does not see the file")

    monkeypatch.setattr(worker_seats, "check_folder", check)
    run_id = queued(dataset())
    with at_work(run_id, "ada", "grace"):
        pass
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["message"] == "The worker grace cannot take part: it does not see the file"


def test_what_several_workers_cannot_do_is_refused_before_any_waits(
    database: Any, models: ModelCache
) -> None:
    with transaction() as session:
        dataset_id = factories.dataset(session, pairs=PAIRS).id
        wanted = {"refresh_filter": {"reward_model": "judge"}}
        run_id = factories.run(session, dataset_id, status="queued", config=wanted).id
    assert execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "`chesboard worker --gpus 1 --seats 2`" in run.error["message"]
    assert "refresh_filter is not supported" in run.error["message"]


def test_runs_of_other_kinds_need_no_second_worker(database: Any, models: ModelCache) -> None:
    with transaction() as session:
        dataset_id = factories.dataset(session, pairs=PAIRS).id
        config = {"model": "tiny"}
        ids = [
            factories.run(session, dataset_id, kind=kind, status="queued", config=config).id
            for kind in ("score", "check")
        ]
    for run_id in ids:
        assert execute(run_id, "ada", models)
        assert stored(run_id).status == "succeeded", stored(run_id).error


def cancel(run_id: int) -> None:
    with transaction() as session:
        session.get_one(Run, run_id).cancel_requested = True
