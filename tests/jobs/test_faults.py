"""What goes wrong around a run, one fault at a time, on a real database and a tiny model.

The worker's own functions are called here; `make chaos` kills real processes.
"""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg.errors import DiskFull
from sqlalchemy import func, literal, select, update
from sqlalchemy.exc import OperationalError

from app.core.database import transaction
from app.core.settings import get_settings
from app.store import leases, recording
from app.store.runs import Metric, Run
from app.store.scores import Score
from app.store.shards import claims
from app.store.shards.tables import RunShard
from chesboard.records import MetricRecord
from tests.app import factories
from tests.app.rows import stored
from tests.jobs.interruption import recorded, resume
from tests.support import database_is_away
from worker import execution as runtime
from worker import retry, shards
from worker.execution import execute
from worker.lease_keeper import CANCEL_POLL_SECONDS
from worker.models.cache import ModelCache
from worker.recorder import Recorder
from worker.training import checkpoints
from worker.training import execution as training

PAIRS = 6
TRAINING = {"learning_rate": 1e-3, "batch_size": 1, "checkpoint_every": 2, "probe_every": 3}


@pytest.fixture
def models(database: Any, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
    monkeypatch.setenv("CHESBOARD_MODELS_DIR", str(tiny_model_dir.parent))
    get_settings.cache_clear()
    return ModelCache(get_settings())


def queued(kind: str, config: dict[str, Any] | None = None) -> int:
    with transaction() as session:
        dataset = factories.dataset(session, pairs=PAIRS)
        return factories.run(session, dataset.id, kind=kind, status="queued", config=config).id


def count(table: Any, run_id: int) -> int:
    with transaction() as session:
        return session.scalar(select(func.count()).where(table.run_id == run_id)) or 0


def losses(run_id: int) -> list[tuple[int, float | None]]:
    with transaction() as session:
        rows = session.execute(
            select(Metric.step, Metric.loss).where(Metric.run_id == run_id).order_by(Metric.step)
        )
        return [(row.step, row.loss) for row in rows]


def calls_before(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, fault: Callable[[], object]
) -> None:
    """Call `fault` each time before the function of that name is called; it may raise."""
    really = getattr(where, name)

    def disturbed(*arguments: Any, **named: Any) -> Any:
        fault()
        return really(*arguments, **named)

    monkeypatch.setattr(where, name, disturbed)


# --- messages and leases ------------------------------------------------------------------------


def test_a_message_that_is_delivered_twice_does_the_work_once(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker import tasks  # makes its Celery from the settings, which name a broker now

    monkeypatch.setattr(tasks, "_models", lambda: models)
    run_id = queued("score")
    tasks.execute_run(run_id)
    first = stored(run_id)
    tasks.execute_run(run_id)
    again = stored(run_id)
    assert first.status == "succeeded"
    assert (again.revision, again.attempts) == (first.revision, 1)
    assert count(Score, run_id) == PAIRS


def test_two_workers_that_hear_of_a_run_at_once_do_it_once(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_are_there = threading.Barrier(2, timeout=30)
    calls_before(monkeypatch, leases, "claim", both_are_there.wait)
    run_id = queued("score")
    did: list[bool] = []
    workers = [
        threading.Thread(target=lambda name=name: did.append(execute(run_id, name, models)))
        for name in ("ada", "grace")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(did) == [False, True]
    run = stored(run_id)
    assert (run.status, run.attempts, count(Score, run_id)) == ("succeeded", 1, PAIRS)


@pytest.mark.parametrize("kind", ["score", "train"])
def test_a_worker_that_wakes_up_after_its_lease_was_lost_writes_nothing(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run_id = queued(kind, TRAINING if kind == "train" else None)

    def sleep_too_long() -> None:
        """Loading takes longer than the lease lasts, and another worker claims the run."""
        lease = get_settings().lease
        with transaction() as session:
            for table in (Run, RunShard):
                session.execute(update(table).values(lease_expires_at=func.now() - lease))
            claimed = leases.claim(session, run_id, "grace", lease)
            assert claimed or claims.claim(session, run_id, "grace", lease)

    calls_before(monkeypatch, models, "load", sleep_too_long)
    assert execute(run_id, "ada", models)
    run = stored(run_id)
    assert (run.status, run.worker, run.device) == ("running", "grace", None)
    assert count(Score, run_id) == count(Metric, run_id) == 0
    folder = get_settings().run_path(run_id)
    assert not checkpoints.exists(folder)
    assert not (folder / "model").exists()


# --- the database is away -----------------------------------------------------------------------


def away() -> None:
    raise database_is_away()


def away_so_often(times: int) -> Callable[[], None]:
    left = iter([away] * times)
    return lambda: next(left, lambda: None)()


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (leases, "claim"),
        (runtime, "select_pairs"),
        (training, "choose_probes"),
        (training, "stored_reference"),
        (leases, "finish"),
    ],
)
def test_a_worker_waits_for_a_database_that_is_away_at_any_point_of_a_run(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    monkeypatch.setattr(retry, "FIRST_BACKOFF_SECONDS", 0.001)
    calls_before(monkeypatch, where, name, away_so_often(2))
    run_id = queued("train", TRAINING)
    assert execute(run_id, "ada", models)
    run = stored(run_id)
    assert (run.status, run.attempts) == ("succeeded", 1), run.error
    assert [step for step, _ in losses(run_id)] == list(range(1, PAIRS + 1))


def test_a_statement_that_can_never_succeed_fails_the_run_at_once(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name_too_many() -> None:
        with transaction() as session:
            session.execute(select(literal(1).in_(range(70_000))))

    calls_before(monkeypatch, runtime, "select_pairs", name_too_many)
    run_id = queued("train", TRAINING)
    assert execute(run_id, "ada", models)
    run = stored(run_id)
    assert (run.status, run.attempts) == ("failed", 1)
    assert run.error is not None
    assert "The database refused a statement" in run.error["message"]


def test_a_run_is_cancelled_while_the_disk_of_the_database_is_full(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = threading.Event()

    def fail_if_full() -> None:
        if is_full.is_set():
            raise OperationalError("insert", {}, DiskFull("could not extend file"))

    def fill_and_cancel() -> None:
        is_full.set()
        with transaction() as session:
            session.execute(update(Run).values(cancel_requested=True))
        time.sleep(4 * CANCEL_POLL_SECONDS)

    monkeypatch.setattr(retry, "FIRST_BACKOFF_SECONDS", 0.001)
    calls_before(monkeypatch, recording, "write", fail_if_full)
    calls_before(monkeypatch, training, "train", fill_and_cancel)
    run_id = queued("train", TRAINING)
    assert execute(run_id, "ada", models)
    assert stored(run_id).status == "cancelled"


def test_a_worker_that_is_to_stop_while_the_database_is_away_leaves_the_run_to_the_next(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()
    monkeypatch.setattr(retry, "shutting_down", told)

    def away_and_told_to_stop() -> None:
        told.set()
        away()

    calls_before(monkeypatch, shards, "read_pairs", away_and_told_to_stop)
    run_id = queued("score")
    assert execute(run_id, "ada", models)
    run = stored(run_id)
    assert (run.status, run.attempts, run.error) == ("queued", 0, None)


# --- the disk is full ---------------------------------------------------------------------------


def test_a_run_whose_disk_ran_full_says_so_and_goes_on_once_there_is_room(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = queued("train", TRAINING)
    execute(calm, "ada", models)

    written = iter(range(2))

    def full_the_second_time() -> None:
        if next(written, None) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls_before(monkeypatch, checkpoints, "save_file", full_the_second_time)
    run_id = queued("train", TRAINING)
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "There is no room for a checkpoint" in run.error["message"]
    assert str(get_settings().runs_path) in run.error["message"]
    assert "MiB left" in run.error["message"]
    assert "resume the run" in run.error["hint"]

    steps = recorded(monkeypatch, MetricRecord)
    resume(run_id, models)
    assert len(steps) == PAIRS - 2  # those after the checkpoint that stayed whole
    assert losses(run_id) == losses(calm)
    assert not checkpoints.exists(get_settings().run_path(run_id))


# --- phases -----------------------------------------------------------------------------------

PHASES = {
    "score": ["loading", "tokenizing", "comparing forward passes", "scoring"],
    "evaluate": ["loading", "tokenizing", "comparing forward passes", "scoring"],
    "check": ["loading", "tokenizing"],
    "preflight": ["loading", "tokenizing", "comparing forward passes", "pre-flight"],
    "generate": ["loading", "tokenizing", "generating"],
    "train": [
        "loading",
        "tokenizing",
        "comparing forward passes",
        "reference pass",
        "initial probes",
        "training",
        "measuring displacement",
        "training",
        "saving the model",
    ],
}


def phases_entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The phases that recorders are told of, each once where it is entered."""
    entered: list[str] = []
    really = Recorder.phase

    def phase(self: Recorder, name: Any, *counts: Any) -> None:
        if entered[-1:] != [name]:
            entered.append(name)
        really(self, name, *counts)

    monkeypatch.setattr(Recorder, "phase", phase)
    return entered


@pytest.mark.parametrize("kind", PHASES)
def test_a_run_goes_through_its_phases_and_ends_in_none(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    entered = phases_entered(monkeypatch)
    run_id = queued(kind, TRAINING if kind == "train" else None)
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert (run.status, run.phase) == ("succeeded", None)
    assert entered == PHASES[kind]


def test_a_resumed_run_goes_through_its_phases_anew(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_once() -> None:
        if next(once, None) is not None:
            raise ValueError("for once")

    once = iter([None, 1])
    calls_before(monkeypatch, checkpoints, "write", fail_once)
    run_id = queued("train", TRAINING)
    execute(run_id, "ada", models)
    assert (stored(run_id).status, stored(run_id).phase) == ("failed", None)
    entered = phases_entered(monkeypatch)
    resume(run_id, models)
    assert entered == [name for name in PHASES["train"] if name != "initial probes"]


@pytest.mark.parametrize("phase", ["loading", "tokenizing"])
def test_a_run_is_cancelled_before_its_first_number(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """The flag is set as the phase begins, and read before the phase's end."""
    run_id = queued("score")
    really = Recorder.phase
    seen: list[str] = []

    def cancel(self: Recorder, name: Any, *counts: Any) -> None:
        really(self, name, *counts)
        seen.append(name)
        if name == phase and seen.count(name) == 1:
            with transaction() as session:
                session.get_one(Run, run_id).cancel_requested = True
            time.sleep(2 * CANCEL_POLL_SECONDS)

    monkeypatch.setattr(Recorder, "phase", cancel)
    execute(run_id, "ada", models)
    assert (stored(run_id).status, stored(run_id).phase) == ("cancelled", None)
    assert seen[-1] == phase
    assert "scoring" not in seen
