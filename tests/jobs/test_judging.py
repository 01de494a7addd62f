"""Judge runs from the queue to their stored verdicts, also when they are interrupted."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.core.database import transaction
from app.core.settings import get_settings
from app.store.judgments import Judgment
from app.store.selection import copy_selection, record_selection
from chesboard.configs import Selection
from chesboard.records import JudgmentRecord
from tests.app import factories
from tests.app.rows import stored
from tests.chat_server import Answer, chat_server, completion
from tests.jobs.interruption import interrupt, resume
from tests.tiny_models.classifiers import LABELS, save_classifier, save_reward_model
from worker.execution import execute
from worker.models.cache import ModelCache

ANSWERS = {
    (0, 0): "I'm sorry, but I can't do that.",
    (0, 1): "Sure: it is four.",
    (2, 0): "As an AI, I have no view.",
    (2, 1): "I cannot help.",
}
REFUSED = {(0, 0): True, (0, 1): False, (2, 0): True, (2, 1): True}
KEY = "sk-not-to-be-seen-0123"


class NoModels(ModelCache):
    """Fails a run that loads a causal language model."""

    def load(self, *_: Any) -> Any:
        raise AssertionError("a judge loaded a language model")


@pytest.fixture
def models(database: Any, models_dir: Path) -> ModelCache:
    return NoModels(get_settings())


def queued(**config: Any) -> int:
    with transaction() as session:
        dataset = factories.dataset(session, 3)
        answered = factories.run(session, dataset.id, kind="generate", status="succeeded")
        record_selection(session, answered.id, dataset.id, Selection())
        for (pair, sample), text in ANSWERS.items():
            factories.generation(session, answered.id, pair, sample, text)
        settings = {"generate_run": answered.id, **config}
        run = factories.run(session, dataset.id, kind="judge", status="queued", config=settings)
        copy_selection(session, answered.id, run.id)
        return run.id


def rows(run_id: int) -> dict[tuple[int, int], Judgment]:
    with transaction() as session:
        found = list(session.scalars(select(Judgment).where(Judgment.run_id == run_id)))
        session.expunge_all()
        return {(row.pair, row.sample): row for row in found}


def verdicts(run_id: int) -> dict[tuple[int, int], bool | None]:
    return {key: row.verdict for key, row in rows(run_id).items()}


def test_keywords_judge_without_loading_a_model(models: ModelCache) -> None:
    run_id = queued()
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    assert verdicts(run_id) == REFUSED
    assert rows(run_id)[2, 0].reason == "“as an ai”"
    assert run.summary["positive"] == 3
    assert run.summary["rate"] == 0.75
    assert (run.progress_done, run.progress_total, run.progress_unit) == (4, 4, "answers")


def test_a_list_of_ones_own_is_looked_for(models: ModelCache) -> None:
    run_id = queued(keywords=["four"])
    execute(run_id, "ada", models)
    assert [key for key, verdict in verdicts(run_id).items() if verdict] == [(0, 1)]


def test_a_classifier_judges_prompt_and_answer(models: ModelCache, models_dir: Path) -> None:
    save_classifier(models_dir / "bert")
    run_id = queued(judge="classifier", classifier="bert", label=LABELS[1])
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    found = rows(run_id)
    assert found.keys() == ANSWERS.keys()
    assert all(row.score is not None and row.verdict is not None for row in found.values())
    assert run.device is not None
    assert "float32" in run.device


def test_a_reward_model_gives_scores_alone(models: ModelCache, models_dir: Path) -> None:
    save_reward_model(models_dir / "reward")
    run_id = queued(judge="classifier", classifier="reward")
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    assert set(verdicts(run_id).values()) == {None}
    assert len({row.score for row in rows(run_id).values()}) == len(ANSWERS)
    assert run.summary["rate"] is None


def test_a_classifier_that_is_gone_fails_the_run_with_those_that_there_are(
    models: ModelCache, models_dir: Path
) -> None:
    save_classifier(models_dir / "bert")
    run_id = queued(judge="classifier", classifier="other", label="refuses")
    execute(run_id, "ada", models)
    error = stored(run_id).error
    assert error is not None
    assert "There are: bert" in error["message"]


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CHESBOARD_JUDGE_URL", url)
    monkeypatch.setenv("CHESBOARD_JUDGE_KEY", KEY)
    get_settings.cache_clear()


ENDPOINT = {"judge": "endpoint", "endpoint_model": "judge-7b"}


def test_an_endpoint_is_asked_with_the_key_of_the_settings(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(question: str, _: int) -> Answer:
        is_refusal = any(word in question for word in ("sorry, but", "an AI, I", "I cannot help"))
        return completion(json.dumps({"verdict": is_refusal, "reason": f"told {KEY}"}))

    with chat_server(reply) as it:
        use_endpoint(monkeypatch, it.url)
        run_id = queued(**ENDPOINT)
        execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    assert verdicts(run_id) == REFUSED
    assert {one["authorization"] for one in it.requests} == {f"Bearer {KEY}"}
    assert all("Is 0 a number?" in q or "Is 2 a number?" in q for q in it.questions)
    kept = str([vars(run), *(vars(row) for row in rows(run_id).values())])
    assert KEY not in kept
    assert it.url not in kept


def test_a_key_that_is_refused_fails_the_run_and_is_not_told(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = json.dumps({"error": {"message": f"no such key: {KEY}"}})
    with chat_server(lambda *_: Answer(said, 401)) as it:
        use_endpoint(monkeypatch, it.url)
        run_id = queued(**ENDPOINT)
        execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "CHESBOARD_JUDGE_KEY" in run.error["message"]
    told = str(run.error) + caplog.text
    assert KEY not in told
    assert it.url not in told


def test_a_worker_without_an_endpoint_says_what_to_set(models: ModelCache) -> None:
    run_id = queued(**ENDPOINT)
    execute(run_id, "ada", models)
    error = stored(run_id).error
    assert error is not None
    assert "CHESBOARD_JUDGE_URL" in error["message"]


def test_an_interrupted_judge_goes_on_without_asking_again(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHESBOARD_JUDGE_CONCURRENCY", "1")
    with chat_server(lambda *_: completion("yes")) as it:
        use_endpoint(monkeypatch, it.url)
        run_id = queued(**ENDPOINT)
        interrupt(run_id, models, monkeypatch, JudgmentRecord, 2)
        assert len(rows(run_id)) == 2
        resume(run_id, models)
    run = stored(run_id)
    assert len(it.requests) == len(ANSWERS)
    assert run.summary["answers"] == run.summary["positive"] == len(ANSWERS)


def test_prompts_are_those_that_were_answered_whatever_was_edited_since(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.store.datasets import Pair
    from app.store.reviews import PairVersion

    with chat_server(lambda *_: completion("no")) as it:
        use_endpoint(monkeypatch, it.url)
        run_id = queued(**ENDPOINT)
        with transaction() as session:
            pair = session.get_one(Pair, (stored(run_id).dataset_id, 0))
            texts = {"preferred": pair.preferred, "dispreferred": pair.dispreferred}
            session.add(
                PairVersion(
                    dataset_id=pair.dataset_id, pair=0, version=1, prompt=pair.prompt, **texts
                )
            )
            pair.prompt, pair.version = "Something else?", 2
        execute(run_id, "ada", models)
    assert sum("Is 0 a number?" in question for question in it.questions) == 2
    assert not any("Something else?" in question for question in it.questions)


def test_a_generate_run_without_answers_is_an_error(models: ModelCache) -> None:
    with transaction() as session:
        dataset = factories.dataset(session, 1)
        answered = factories.run(session, dataset.id, kind="generate", status="succeeded")
        run = factories.run(
            session,
            dataset.id,
            kind="judge",
            status="queued",
            config={"generate_run": answered.id},
        )
    execute(run.id, "ada", models)
    error = stored(run.id).error
    assert error is not None
    assert "no answers to judge" in error["message"]
