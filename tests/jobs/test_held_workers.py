"""A run is cancelled within seconds in each of its phases, also in a call that does not return.

The call is a read of a pipe that nobody writes to: what a disk that does not answer looks like.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from sqlalchemy import select, update

from app.core.database import transaction
from app.store.runs import Run
from app.store.shards.tables import RunShard
from chesboard.hub import download
from chesboard.reporting import PhaseName
from tests.app import factories
from tests.app.rows import stored
from tests.gguf_files import write_llama
from tests.silent_server import silent_server
from worker import lease_keeper, replacing
from worker.execution import execute
from worker.models.cache import ModelCache
from worker.recorder import Recorder

CANCELLED_WITHIN = 5.0
"""Seconds; STOP_SECONDS is a fraction of one here."""


def queued(kind: str, **config: Any) -> int:
    """A run of the model tiny, unless the configuration names another."""
    with transaction() as session:
        dataset = factories.dataset(session, pairs=3)
        return factories.run(session, dataset.id, kind=kind, status="queued", config=config).id


def cancel(run_id: int) -> None:
    with transaction() as session:
        session.execute(update(Run).where(Run.id == run_id).values(cancel_requested=True))


class Pipe:
    """Holds who reads from it, until it is released."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        self.held = threading.Event()

    def hold(self) -> None:
        """Once."""
        if not self.held.is_set():
            self.held.set()
            self._path.read_bytes()

    def release(self) -> None:
        self._path.write_bytes(b"")


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    return Pipe(tmp_path / "disk")


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> Iterator[list[str]]:
    """The statuses of all runs each time that the worker's process would be replaced. As it is the
    test's, the call that holds it returns instead."""
    found: list[str] = []

    def replace() -> None:
        with transaction() as session:
            found.extend(session.scalars(select(Run.status)))
        pipe.release()

    monkeypatch.setattr(replacing, "replace_process", replace)
    monkeypatch.setattr(lease_keeper, "STOP_SECONDS", 0.3)
    replacing.replaceable.set()
    yield found
    replacing.replaceable.clear()


def hold_in(monkeypatch: pytest.MonkeyPatch, phase: str, pipe: Pipe) -> None:
    """Hold the worker at the first step of a phase."""
    really = Recorder.phase

    def held(self: Recorder, name: PhaseName, *arguments: Any, **named: Any) -> None:
        really(self, name, *arguments, **named)
        if name == phase:
            pipe.hold()

    monkeypatch.setattr(Recorder, "phase", held)


def cancel_when(held: threading.Event, run_id: int) -> list[float]:
    """Cancel the run once it is held, from another thread; gets the time at which it was."""
    at: list[float] = []

    def wait() -> None:
        if held.wait(60):
            cancel(run_id)
            at.append(time.monotonic())

    threading.Thread(target=wait, daemon=True).start()
    return at


PHASES: dict[str, tuple[str, dict[str, Any]]] = {
    "loading": ("score", {}),
    "dequantizing": ("score", {"model": "quantized"}),
    "tokenizing": ("score", {}),
    "comparing forward passes": ("score", {}),
    "scoring": ("evaluate", {}),
    "generating": ("generate", {"answer_tokens": 4}),
    "reference pass": ("train", {"max_steps": 2}),
    "initial probes": ("train", {"max_steps": 2}),
    "training": ("train", {"max_steps": 2}),
    "saving the model": ("train", {"max_steps": 1}),
    "pre-flight": ("preflight", {}),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_run_is_cancelled_in_a_call_that_does_not_return(
    models: ModelCache,
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    pipe: Pipe,
    replaced: list[str],
    phase: str,
) -> None:
    kind, config = PHASES[phase]
    (models_dir / "quantized").mkdir()
    write_llama(models_dir / "quantized" / "small.gguf", ["<s>", "</s>", "a", "b", "ab"], ["a b"])
    hold_in(monkeypatch, phase, pipe)
    run_id = queued(kind, **config)
    cancelled_at = cancel_when(pipe.held, run_id)
    execute(run_id, "ada", models)
    assert replaced == ["cancelled"], "before the call returned"
    assert time.monotonic() - cancelled_at[0] < CANCELLED_WITHIN
    assert stored(run_id).status == "cancelled"
    following = queued("score")
    execute(following, "ada", models)
    assert stored(following).status == "succeeded"


def test_a_worker_that_gets_free_in_time_is_not_replaced(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, pipe: Pipe, replaced: list[str]
) -> None:
    monkeypatch.setattr(lease_keeper, "STOP_SECONDS", 30)
    hold_in(monkeypatch, "tokenizing", pipe)
    run_id = queued("score")
    cancelled_at = cancel_when(pipe.held, run_id)

    def release() -> None:
        while not cancelled_at:
            time.sleep(0.01)
        time.sleep(3 * lease_keeper.CANCEL_POLL_SECONDS)
        pipe.release()

    threading.Thread(target=release, daemon=True).start()
    execute(run_id, "ada", models)
    assert (stored(run_id).status, replaced) == ("cancelled", [])


@pytest.mark.parametrize("kind", ["score", "train"])
def test_a_held_worker_whose_run_is_anothers_is_replaced_and_ends_nothing(
    models: ModelCache,
    monkeypatch: pytest.MonkeyPatch,
    pipe: Pipe,
    replaced: list[str],
    kind: str,
) -> None:
    hold_in(monkeypatch, "loading", pipe)
    run_id = queued(kind)

    def lose() -> None:
        pipe.held.wait(60)
        with transaction() as session:
            session.execute(update(Run).values(lease_token="another"))
            session.execute(update(RunShard).values(lease_token="another"))

    threading.Thread(target=lose, daemon=True).start()
    execute(run_id, "ada", models)
    assert replaced == ["running"]
    assert stored(run_id).status == "running"


@pytest.mark.parametrize("kind", ["score", "train", "check"])
def test_a_tokenizer_whose_library_gives_up_fails_its_run_and_not_the_worker(
    models: ModelCache, models_dir: Path, kind: str
) -> None:
    folder = models_dir / "giving-up"
    shutil.copytree(models_dir / "tiny", folder)
    described = json.loads((folder / "tokenizer.json").read_text())
    described["pre_tokenizer"] = {"type": "FixedLength", "length": 0}
    (folder / "tokenizer.json").write_text(json.dumps(described))
    run_id = queued(kind, model="giving-up")
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "A library that reads the model gave up: " in run.error["message"]
    following = queued("score")
    execute(following, "ada", models)
    assert stored(following).status == "succeeded"


# --- a hub that never answers ---------------------------------------------------------------------


@pytest.fixture(params=["never answers", "a byte at a time"])
def hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with silent_server(0.05 if request.param == "a byte at a time" else None) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield address


@pytest.mark.parametrize("kind", ["check", "score", "generate", "train"])
def test_a_run_whose_hub_does_not_answer_says_so_in_time_and_others_go_on(
    models: ModelCache, hub: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.5)
    run_id, began = queued(kind, model="acme/model"), time.monotonic()
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "“acme/model” is not on this worker, and the hub does not answer" in run.error["message"]
    assert time.monotonic() - began < CANCELLED_WITHIN
    following = queued("score")
    execute(following, "ada", models)
    assert stored(following).status == "succeeded"


@pytest.mark.parametrize("kind", ["check", "score", "train"])
def test_a_run_whose_hub_does_not_answer_is_cancelled_at_once(
    models: ModelCache, hub: str, kind: str
) -> None:
    run_id, held = queued(kind, model="acme/model"), threading.Event()
    cancelled_at = cancel_when(held, run_id)
    threading.Timer(0.5, held.set).start()
    execute(run_id, "ada", models)
    assert stored(run_id).status == "cancelled"
    assert time.monotonic() - cancelled_at[0] < CANCELLED_WITHIN
