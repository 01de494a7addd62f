"""A score run of a model of which one layer at a time is in memory: what it tells, and its end."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from app.core.database import transaction
from app.runs import requests
from app.store.runs import Run
from chesboard.forward.layer_stream import LayerStream
from tests.app import factories
from tests.app.rows import stored
from tests.tiny_models import build_other, build_tokenizer
from worker.execution import execute
from worker.models.cache import ModelCache

LAYERS = 12
CANCEL_SECONDS = 3.0
SLOW_SECONDS = 0.3
"""A layer's read: as long as from a disk, were the model as large as those that are streamed."""


def test_layers_are_its_progress_and_a_cancel_ends_it_between_two(
    models: ModelCache, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = models_dir / "deep"
    build_other("llama", num_hidden_layers=LAYERS).save_pretrained(folder)
    build_tokenizer(chat=False).save_pretrained(folder)
    read, reads = LayerStream._read, []

    def slow(self: LayerStream, index: int) -> Any:
        reads.append(index)
        if len(reads) > 2 * LAYERS:  # once the forward passes were compared
            time.sleep(SLOW_SECONDS)
        return read(self, index)

    monkeypatch.setattr(LayerStream, "_read", slow)
    with transaction() as session:
        dataset = factories.dataset(session, 6)
        config = {"model": "deep", "stream": "always"}
        run_id = factories.run(session, dataset.id, kind="score", status="queued", config=config).id
    worker = threading.Thread(target=execute, args=(run_id, "ada", models))
    worker.start()
    try:
        run = wait_for_layers(run_id, 5)
        assert run.phase_total == LAYERS
        assert run.phase_eta_seconds is not None
        assert 0 < run.phase_eta_seconds < 10 * LAYERS * SLOW_SECONDS
        assert (run.progress_done, run.progress_total, run.progress_unit) == (0, 6, "pairs")
        asked = time.monotonic()
        with transaction() as session:
            requests.cancel(session, run_id)
    finally:
        worker.join(60)
    assert time.monotonic() - asked < CANCEL_SECONDS
    assert stored(run_id).status == "cancelled"
    assert max(reads[-2:]) < LAYERS - 1  # it did not go on to the last


def wait_for_layers(run_id: int, layers: int) -> Run:
    deadline = time.monotonic() + 60
    while True:
        run = stored(run_id)
        if (
            run.phase == "scoring"
            and run.phase_unit == "layers"
            and (run.phase_done or 0) >= layers
        ):
            return run
        assert time.monotonic() < deadline, (run.phase, run.phase_done, run.phase_unit, run.error)
        assert run.status in ("queued", "running"), run.error
        time.sleep(0.05)
