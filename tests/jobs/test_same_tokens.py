"""Pairs whose responses are the same tokens after truncation: not trained on, and said to be."""

from typing import Any

import pytest
from sqlalchemy import select

from app.core.database import transaction
from app.core.settings import get_settings
from app.store.runs import ReferenceLogprob, Run
from tests.app import factories
from worker.execution import execute
from worker.models.cache import ModelCache

ALIKE = ("Is it?", "Well, yes", "Well, no")
APART = ("Is it?", "Yes", "No")


@pytest.fixture
def models(database: Any, tiny_model_dir: Any, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
    monkeypatch.setenv("CHESBOARD_MODELS_DIR", str(tiny_model_dir.parent))
    get_settings.cache_clear()
    return ModelCache(get_settings())


def trained(models: ModelCache, pairs: list[tuple[str, str, str]]) -> tuple[Run, list[int]]:
    """A training run over responses cut to three tokens, and the pairs that it trained on."""
    config = {"max_response_tokens": 3, "batch_size": 1, "max_steps": 2}
    with transaction() as session:
        dataset = factories.dataset(session, pairs)
        run_id = factories.run(session, dataset.id, status="queued", config=config).id
    execute(run_id, "ada", models)
    with transaction() as session:
        query = select(ReferenceLogprob.pair).where(ReferenceLogprob.run_id == run_id)
        return session.get_one(Run, run_id), sorted(session.scalars(query))


def test_they_are_left_out_of_training(models: ModelCache) -> None:
    run, pairs = trained(models, [APART, ALIKE, APART])
    assert run.status == "succeeded"
    assert pairs == [0, 2]
    assert run.summary["pairs"] == 2
    [message] = [message for message in run.messages if "same tokens" in message]
    assert "1 of 3 pairs (1)" in message
    assert "raise max_response_tokens" in message


def test_a_run_without_any_other_pair_fails_and_says_what_to_do(models: ModelCache) -> None:
    run, pairs = trained(models, [ALIKE, ALIKE])
    assert run.status == "failed"
    assert pairs == []
    assert run.error is not None
    assert "Raise max_response_tokens" in run.error["message"]
    assert "fault" not in (run.error["hint"] or "")
