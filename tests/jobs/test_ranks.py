"""A training run on two processes, on a real database: killed, asked to stop, and going on."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from sqlalchemy import func, select

from app.core.database import transaction
from app.core.settings import get_settings
from app.store.probes import ProbeStep
from app.store.runs import Metric, ReferenceLogprob, Run
from tests.app import factories
from tests.app.rows import stored
from tests.processes import ranks_of
from tests.support import ENDLESS_TEMPLATE, eventually
from worker import lease_keeper
from worker.execution import execute
from worker.models.cache import ModelCache
from worker.training import checkpoints

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")

PAIRS, STEPS = 5, 40
RANK_SECONDS = 6
TRAINING = {
    "learning_rate": 1e-4,
    "batch_size": 3,  # batches of 3 and of 2: no process has as many pairs as the other
    "epochs": STEPS // 2,
    "checkpoint_every": 3,
    "probe_every": 8,
    "probes": {"prompts": [{"prompt": "Is it?"}]},
}


def queued(dataset_id: int) -> int:
    with transaction() as session:
        return factories.run(session, dataset_id, status="queued", config=TRAINING).id


def with_gpus(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHESBOARD_GPUS", str(count))
    get_settings.cache_clear()


def steps_done(run_id: int) -> int:
    with transaction() as session:
        return session.scalar(select(func.max(Metric.step)).where(Metric.run_id == run_id)) or 0


def execute_until(run_id: int, models: ModelCache, step: int, strike: Callable[[], object]) -> None:
    """Execute a run, and strike once it has recorded a step."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if steps_done(run_id) >= step:
                strike()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert execute(run_id, "ada", models)
    finally:
        over.set()
        watcher.join()


def kill_the_second_process() -> None:
    """Of this test's own run."""
    ranks_of(psutil.Process())[1].kill()


def read(run_id: int) -> dict[str, dict[Any, list[Any]]]:
    """The numbers of a run, by what they are of."""
    with transaction() as session:
        metrics = session.scalars(select(Metric).where(Metric.run_id == run_id)).all()
        probes = session.scalars(select(ProbeStep).where(ProbeStep.run_id == run_id)).all()
        finals = session.scalars(
            select(ReferenceLogprob).where(ReferenceLogprob.run_id == run_id)
        ).all()
        return {
            "steps": {
                m.step: [m.loss, m.grad_norm, m.margin, m.preferred_logprob, m.tokens_seen]
                for m in metrics
            },
            "probes": {(p.pair, p.step): [*p.preferred_logprobs, *p.watched_probs] for p in probes},
            "finals": {
                f.pair: [f.preferred, f.dispreferred, f.final_preferred, f.final_dispreferred]
                for f in finals
            },
        }


def saved_weights(run_id: int) -> dict[str, torch.Tensor]:
    return load_file(get_settings().run_path(run_id) / "model" / "model.safetensors")


def same_numbers(run_id: int, calm: int) -> None:
    """Each step once, and what was measured and trained as in a run that nothing disturbed, but for
    the rounding of sums over processes."""
    found, expected = read(run_id), read(calm)
    assert sorted(found["steps"]) == list(range(1, STEPS + 1))
    for what, rows in expected.items():
        assert found[what].keys() == rows.keys(), what
        for key, values in rows.items():
            assert found[what][key] == pytest.approx(values, rel=1e-3, abs=1e-5), (what, key)
    weights = saved_weights(run_id)
    for name, weight in saved_weights(calm).items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-5)


def test_killed_and_stopped_on_two_processes_it_is_the_undisturbed_run_of_one(
    database: Any, models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        dataset_id = factories.dataset(session, pairs=PAIRS).id
    calm, run_id = queued(dataset_id), queued(dataset_id)
    assert execute(calm, "ada", models)

    with_gpus(2, monkeypatch)
    execute_until(run_id, models, 8, kill_the_second_process)
    run = stored(run_id)
    # Nobody failed it: its lease is over, and whoever comes next goes on with it.
    assert (run.status, run.error, run.attempts) == ("running", None, 1)
    after = steps_done(run_id)
    assert 8 <= after < STEPS
    folder: Path = get_settings().run_path(run_id)
    assert checkpoints.exists(folder)

    told = threading.Event()
    monkeypatch.setattr(lease_keeper, "shutting_down", told)
    execute_until(run_id, models, after + 8, told.set)
    run = stored(run_id)
    assert (run.status, run.attempts) == ("queued", 1), run.error  # handed back, not counted
    assert after + 8 <= steps_done(run_id) < STEPS
    told.clear()

    with_gpus(1, monkeypatch)  # another worker, with one GPU
    assert execute(run_id, "grace", models)
    run = stored(run_id)
    assert (run.status, run.attempts) == ("succeeded", 2), run.error
    assert not checkpoints.exists(folder)

    same_numbers(run_id, calm)
    assert not ranks_of(psutil.Process())


def test_a_frozen_process_is_noticed_and_the_run_goes_on_from_its_checkpoint(
    database: Any, models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        dataset_id = factories.dataset(session, pairs=PAIRS).id
    calm, run_id = queued(dataset_id), queued(dataset_id)
    assert execute(calm, "ada", models)

    monkeypatch.setenv("CHESBOARD_RANK_TIMEOUT", f"PT{RANK_SECONDS}S")
    with_gpus(2, monkeypatch)
    frozen_at: list[float] = []

    def freeze() -> None:
        ranks_of(psutil.Process())[1].suspend()
        frozen_at.append(time.monotonic())

    execute_until(run_id, models, 8, freeze)
    # Its last sign of life may have been a second before.
    assert RANK_SECONDS - 2 <= time.monotonic() - frozen_at[0] < RANK_SECONDS + 20
    assert not ranks_of(psutil.Process())
    run = stored(run_id)
    assert (run.status, run.error, run.attempts) == ("running", None, 1)
    after = steps_done(run_id)
    assert 8 <= after < STEPS
    assert checkpoints.exists(get_settings().run_path(run_id))

    with_gpus(1, monkeypatch)
    assert execute(run_id, "grace", models)
    run = stored(run_id)
    assert (run.status, run.attempts) == ("succeeded", 2), run.error
    same_numbers(run_id, calm)
    assert not ranks_of(psutil.Process())


def test_it_ends_with_its_worker_and_leaves_a_whole_model(
    database: Any, models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its first step to its last on two processes, by adapters."""
    with transaction() as session:
        dataset_id = factories.dataset(session, pairs=PAIRS).id
        config = {**TRAINING, "epochs": 2, "lora": {"rank": 2}, "gradient_checkpointing": True}
        ids = [
            factories.run(session, dataset_id, status="queued", config=config).id for _ in range(2)
        ]
    assert execute(ids[0], "ada", models)
    with_gpus(2, monkeypatch)
    assert execute(ids[1], "ada", models)
    one, two = (stored(run_id) for run_id in ids)
    assert (two.status, two.error) == ("succeeded", None)
    assert two.device is not None
    assert two.device.startswith("2 processes, first on cpu")
    assert two.messages == one.messages
    assert two.summary is not None
    assert one.summary is not None
    assert two.summary.keys() == one.summary.keys()
    assert two.summary["parameters_trained"] == one.summary["parameters_trained"]
    weights = saved_weights(ids[1])
    assert weights.keys() == saved_weights(ids[0]).keys()
    for name, weight in saved_weights(ids[0]).items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-5)
    # The model that is left is one that runs can name.
    with_gpus(1, monkeypatch)
    with transaction() as session:
        score = factories.run(
            session, dataset_id, kind="score", status="queued", config={"model": f"run:{ids[1]}"}
        ).id
    assert execute(score, "ada", models)
    assert stored(score).status == "succeeded", stored(score).error


def test_it_is_cancelled_within_a_template_that_does_not_end(
    database: Any, models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its first process, which has the model by then; its worker would wait for a minute."""
    with transaction() as session:
        dataset_id = factories.dataset(session, pairs=PAIRS).id
        config = {**TRAINING, "chat_template": ENDLESS_TEMPLATE}
        run_id = factories.run(session, dataset_id, status="queued", config=config).id
    cancelled_at: list[float] = []

    def cancel_once_loaded() -> None:
        eventually(lambda: stored(run_id).device is not None, seconds=60)
        with transaction() as session:
            session.get_one(Run, run_id).cancel_requested = True
        cancelled_at.append(time.monotonic())

    with_gpus(2, monkeypatch)
    canceller = threading.Thread(target=cancel_once_loaded)
    canceller.start()
    assert execute(run_id, "ada", models)
    canceller.join()
    assert stored(run_id).status == "cancelled"
    assert time.monotonic() - cancelled_at[0] < 15


def test_what_several_processes_cannot_do_is_refused(
    database: Any, models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        dataset_id = factories.dataset(session, pairs=PAIRS).id
        wanted = {"refresh_filter": {"reward_model": "judge"}}
        run_id = factories.run(session, dataset_id, status="queued", config=wanted).id
    with_gpus(2, monkeypatch)
    assert execute(run_id, "ada", models)
    run: Run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "refresh_filter is not supported" in run.error["message"]
    assert os.environ["CHESBOARD_GPUS"] == "2"
