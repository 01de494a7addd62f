"""Training runs with objectives and remedies that read the store, from the queue to their rows."""

from typing import Any

import pytest
from sqlalchemy import select

from app.core.database import transaction
from app.store.datasets import Pair
from app.store.runs import Metric, ReferenceLogprob
from app.store.selection import record_selection
from chesboard.configs import Selection
from chesboard.records import MetricRecord
from tests.app import factories
from tests.app.rows import stored
from tests.jobs.interruption import interrupt, resume
from worker.execution import execute
from worker.models.cache import ModelCache

PAIRS = [("Is it?", "Yes", "No"), ("Is it?", "No", "Yes the"), ("Is it not?", "Yes", "No the")]
STEPS = {"optimizer": "rmsprop", "learning_rate": 1e-4, "batch_size": 2, "epochs": 2}


def queued(**config: Any) -> int:
    """A training run; the first two pairs have scores in the dataset and in a score run."""
    with transaction() as session:
        dataset = factories.dataset(session, PAIRS)
        scored = factories.run(session, dataset.id, kind="score", status="succeeded")
        for number in (0, 1):
            pair = session.get_one(Pair, (dataset.id, number))
            pair.meta = {"row": number + 1, "score_chosen": 5 + number, "score_rejected": 2}
            factories.score(session, scored.id, number, 1.0, ln_ches=0.5 * number)
        if config.pop("weighted", False):
            config["pair_weights"] = {"score_run": scored.id, "slope": 1.0}
        run = factories.run(session, dataset.id, status="queued", config={**STEPS, **config})
        record_selection(session, run.id, dataset.id, Selection())
        return run.id


def curves(run_id: int) -> list[tuple[Any, ...]]:
    columns = (Metric.step, Metric.loss, Metric.margin, Metric.grad_norm)
    with transaction() as session:
        query = select(*columns).where(Metric.run_id == run_id).order_by(Metric.step)
        return [tuple(row) for row in session.execute(query)]


def test_offsets_and_weights_reach_the_loss_and_are_told(models: ModelCache) -> None:
    run_id = queued(objective="odpo", odpo_unscored="zero", weighted=True)
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    assert any("1 of 3 pairs has no offset" in message for message in run.messages)
    assert any("(1 without the measure: 0)" in message for message in run.messages)
    plain = queued(objective="odpo", odpo_unscored="zero")
    execute(plain, "ada", models)
    assert [row[1] for row in curves(run_id)] != [row[1] for row in curves(plain)]


def test_pairs_without_scores_fail_a_run_that_refuses_them(models: ModelCache) -> None:
    run_id = queued(objective="odpo")
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "odpo_unscored: zero" in run.error["message"]


REMEDIES: dict[str, Any] = {"extend_sft_epochs": 1, "reward_calibration": True, "ld_alpha": 0.5}


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_run_with_every_remedy_goes_on_as_if_nothing_had_happened(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    config = {**REMEDIES, "weighted": True, "checkpoint_every": 1}
    calm, disturbed = queued(**config), queued(**config)
    execute(calm, "ada", models)
    assert stored(calm).status == "succeeded", stored(calm).error
    interrupt(disturbed, models, monkeypatch, MetricRecord, steps)
    resume(disturbed, models)
    assert curves(disturbed) == curves(calm)
    assert [row[2] is None for row in curves(calm)] == [True] * 2 + [False] * 4
    with transaction() as session:
        of = ReferenceLogprob
        query = select(of.preferred_tail, of.dispreferred_tail).where(of.run_id == calm)
        tails = sorted(map(tuple, session.execute(query)))
    assert len(tails) == 3
    assert all(0 in pair for pair in tails)
    assert any(pair != (0, 0) for pair in tails)
