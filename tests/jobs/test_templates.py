"""Whole runs whose chat template refuses a pair, tells the date, or is the run's own."""

import threading
import time
from typing import Any

import pytest
from sqlalchemy import select, update
from transformers import AutoTokenizer

from app.core.database import transaction
from app.core.settings import get_settings
from app.store.runs import ReferenceLogprob, Run
from app.store.scores import Score
from tests.app import factories
from tests.support import CHAT_TEMPLATE, ENDLESS_TEMPLATE
from worker import template_bounds
from worker.execution import execute
from worker.models.cache import ModelCache

PAIRS = [("Is it?", "Yes", "No"), ("Shout!", "Yes", "No"), ("Was it?", "Yes", "Never")]
REFUSES = (
    "{% if word in messages[0].content %}{{ raise_exception('no shouting') }}{% endif %}"
    "{{ strftime_now('%Y') }}"
) + CHAT_TEMPLATE
CONFIG = {"chat_template": REFUSES, "chat_template_kwargs": {"word": "Shout"}}


@pytest.fixture
def models(database: Any, tiny_model_dir: Any, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
    monkeypatch.setenv("CHESBOARD_MODELS_DIR", str(tiny_model_dir.parent))
    get_settings.cache_clear()
    return ModelCache(get_settings())


def executed(
    models: ModelCache, kind: str, pairs: list[tuple[str, str, str]], config: dict[str, Any]
) -> Run:
    with transaction() as session:
        dataset = factories.dataset(session, pairs)
        run_id = factories.run(session, dataset.id, kind=kind, status="queued", config=config).id
    execute(run_id, "ada", models)
    with transaction() as session:
        return session.get_one(Run, run_id)


@pytest.mark.parametrize("kind", ["score", "evaluate", "train"])
def test_a_refused_pair_is_left_out_and_the_others_are_not(models: ModelCache, kind: str) -> None:
    run = executed(models, kind, PAIRS, CONFIG | ({"max_steps": 1} if kind == "train" else {}))
    assert run.status == "succeeded", run.error
    assert (run.summary["pairs"], run.summary["left_out_pairs"]) == (2, 1)
    table = ReferenceLogprob if kind == "train" else Score
    with transaction() as session:
        query = select(table.pair).where(table.run_id == run.id)
        assert sorted(session.scalars(query)) == [0, 2]
    said = [*run.messages, *run.pair_messages]
    assert any("1 of 3 pairs (1), which are left out" in text for text in said)
    assert any("no shouting" in text for text in said)


def test_a_run_whose_every_pair_is_refused_fails_with_the_templates_error(
    models: ModelCache,
) -> None:
    run = executed(models, "score", PAIRS[1:2], CONFIG)
    assert run.status == "failed"
    assert run.error is not None
    assert "refuses every prompt. Pair 0: no shouting" in run.error["message"]
    assert run.error["hint"] is None


def test_the_date_is_that_of_the_run_and_is_told(models: ModelCache) -> None:
    run = executed(models, "score", PAIRS[:1], CONFIG)
    assert any(f"{run.created_at:%d %B %Y} in every prompt" in text for text in run.messages)


def test_a_result_carries_the_template_that_it_was_trained_with(models: ModelCache) -> None:
    run = executed(models, "train", PAIRS, CONFIG | {"max_steps": 1})
    assert any("carries the chat template of this run" in text for text in run.messages)
    saved = AutoTokenizer.from_pretrained(get_settings().run_path(run.id) / "model")
    assert "strftime_now" in saved.chat_template
    again = executed(models, "score", PAIRS, {"model": f"run:{run.id}"})
    assert again.summary["left_out_pairs"] == 1
    assert any("that it was trained with" in text for text in again.messages)
    calm = {"model": f"run:{run.id}", "chat_template_kwargs": {"word": "nothing"}}
    assert executed(models, "score", PAIRS, calm).summary["left_out_pairs"] == 0


def test_a_templates_copy_leaves_the_kept_model_as_it_is(models: ModelCache) -> None:
    executed(models, "score", PAIRS, CONFIG)
    run = executed(models, "score", PAIRS, {})
    assert (run.summary["pairs"], run.summary["left_out_pairs"]) == (3, 0)


# --- templates that would hold the worker ---------------------------------------------------------

BOUNDLESS = "{% set n = messages | length %}{{ ('a' * (n * 10**11)) | length }}"


def test_a_template_that_does_not_end_fails_its_run_and_no_other(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_bounds, "SECONDS", 0.5)
    run = executed(models, "score", PAIRS, {"chat_template": ENDLESS_TEMPLATE})
    assert run.status == "failed"
    assert run.error is not None
    assert "chat template takes more than 0.5 s for one prompt" in run.error["message"]
    assert executed(models, "score", PAIRS, {}).status == "succeeded"


def test_a_template_that_builds_a_text_without_bounds_fails_its_run_and_no_other(
    models: ModelCache,
) -> None:
    run = executed(models, "score", PAIRS, {"chat_template": BOUNDLESS + CHAT_TEMPLATE})
    assert run.status == "failed"
    assert run.error is not None
    assert "needs more than 1,024 MiB of memory for one prompt" in run.error["message"]
    assert executed(models, "score", PAIRS, {}).status == "succeeded"


def test_a_template_that_renders_too_much_fails_its_run(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_bounds, "CHARACTERS", 200)
    run = executed(models, "score", PAIRS, {"chat_template": CHAT_TEMPLATE + "{{ 'a' * 200 }}"})
    assert run.error is not None
    assert "renders a prompt of more than 200 characters" in run.error["message"]


def test_a_run_is_cancelled_within_its_template(models: ModelCache) -> None:
    cancelled_at: list[float] = []

    def cancel() -> None:
        with transaction() as session:
            session.execute(update(Run).values(cancel_requested=True))
        cancelled_at.append(time.monotonic())

    threading.Timer(1, cancel).start()
    run = executed(models, "score", PAIRS, {"chat_template": ENDLESS_TEMPLATE})
    assert run.status == "cancelled"
    assert time.monotonic() - cancelled_at[0] < 5
