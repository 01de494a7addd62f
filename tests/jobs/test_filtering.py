"""Training runs with a filter, from the queue to the rows, interrupted and resumed."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.core.database import transaction
from app.core.settings import get_settings
from app.store.filtering import FilterDecision
from app.store.runs import Metric
from app.store.selection import record_selection
from chesboard import filtering
from chesboard.configs import Selection
from chesboard.records import FilterRecord, MetricRecord
from tests.app import factories
from tests.app.rows import stored
from tests.jobs.interruption import interrupt, resume
from tests.tiny_models.classifiers import save_reward_model
from worker.execution import execute
from worker.models.cache import ModelCache

PAIRS = [(f"Is it {n} or not?", "Yes " * (n % 3) + "Yes", "No the" + " No" * n) for n in range(6)]
CONFIG = {
    "learning_rate": 1e-3,
    "batch_size": 2,
    "epochs": 3,
    "checkpoint_every": 1,
    "scheduler": "cosine",
    "refresh_filter": {"reward_model": "judge", "answer_tokens": 4},
}


@pytest.fixture
def models(models: ModelCache, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
    save_reward_model(models_dir / "judge")
    monkeypatch.setattr(filtering, "DECIDED_AT_A_TIME", 2)
    return models


def queued(**config: Any) -> int:
    with transaction() as session:
        dataset = factories.dataset(session, PAIRS)
        run = factories.run(session, dataset.id, status="queued", config={**CONFIG, **config})
        record_selection(session, run.id, dataset.id, Selection())
        return run.id


def rows(run_id: int) -> tuple[Any, ...]:
    metrics = (Metric.step, Metric.loss, Metric.grad_norm, Metric.learning_rate)
    of = FilterDecision
    decisions = (of.epoch, of.pair, of.text, of.sample_reward, of.preferred_reward, of.kept)
    with transaction() as session:
        return tuple(
            [tuple(row) for row in session.execute(query)]
            for query in (
                select(*metrics).where(Metric.run_id == run_id).order_by(Metric.step),
                select(*decisions).where(of.run_id == run_id).order_by(of.epoch, of.pair),
            )
        )


def test_decisions_are_stored_and_pairs_that_are_dropped_stay_out(models: ModelCache) -> None:
    run_id = queued()
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    metrics, decisions = rows(run_id)
    kept = {row[:2]: row[5] for row in decisions}
    assert {*kept.values()} == {True, False}
    for (epoch, pair), keeps in kept.items():
        assert ((epoch + 1, pair) in kept) == (keeps and epoch < 3)
    assert all(row[5] == (row[3] < row[4]) for row in decisions)
    left = [sum(keeps for (of, _), keeps in kept.items() if of == epoch) for epoch in (1, 2, 3)]
    assert run.summary["steps"] == len(metrics) == sum(-(-count // 2) for count in left)
    assert run.summary["dropped_pairs"] == len(PAIRS) - left[-1]
    assert (run.progress_done, run.progress_total) == (len(metrics), len(metrics))


def test_a_run_that_is_cancelled_and_resumed_is_as_one_that_was_not(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = queued()
    execute(calm, "ada", models)
    points: list[tuple[Any, int]] = [(FilterRecord, n) for n in (2, 4, 6, 8, 10)]
    points += [(MetricRecord, n) for n in (1, 2, 3)]
    for kind, after in points:
        disturbed = queued()
        with monkeypatch.context() as patch:
            interrupt(disturbed, models, patch, kind, after)
            resume(disturbed, models)
        where = f"cancelled at {kind.__name__} {after}"
        assert rows(disturbed) == rows(calm), where
        for name in ("steps", "dropped_pairs", "final_loss", "tokens_seen"):
            assert stored(disturbed).summary[name] == stored(calm).summary[name], (where, name)


def test_a_reward_model_that_is_gone_fails_the_run_before_it_trains(models: ModelCache) -> None:
    run_id = queued()
    shutil.rmtree(get_settings().models_path / "judge")
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "no model “judge”" in run.error["message"]
    assert rows(run_id) == ([], [])
