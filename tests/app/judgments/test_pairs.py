"""Datasets of pairs from judged answers, through the API."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.store.datasets import Dataset, Pair
from app.store.runs import Run
from app.store.selection import record_selection
from chesboard.configs import Selection
from tests.app import factories

API = "/api/v1"
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}]

Judged = tuple[str, bool | None, float | None]
REFUSES: Judged = ("I'm sorry, I can't.", True, None)
ANSWERS: Judged = ("Sure, here it is.", False, None)


def make_judge(
    session: Session, prompts: dict[int, list[Judged]], status: str = "succeeded", **columns: Any
) -> Run:
    """A judge run over a dataset in which pair 1 has a chat as its prompt."""
    dataset = factories.dataset(session, max(prompts, default=0) + 1)
    if 1 in prompts:
        session.get_one(Pair, (dataset.id, 1)).prompt = CHAT
    of = factories.run(session, dataset.id, kind="generate", status="succeeded")
    record_selection(session, of.id, dataset.id, Selection())
    judge = factories.run(
        session, dataset.id, kind="judge", status=status, config={"generate_run": of.id}, **columns
    )
    for pair, answers in prompts.items():
        for sample, (text, verdict, score) in enumerate(answers):
            factories.generation(session, of.id, pair, sample, text)
            factories.judgment(session, judge.id, pair, sample, verdict, score)
    session.commit()
    return judge


def make(client: TestClient, judge: Run, status: int = 201, **body: Any) -> Any:
    answer = client.post(f"{API}/runs/{judge.id}/pairs", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def stored(session: Session, dataset_id: int) -> list[Pair]:
    query = select(Pair).where(Pair.dataset_id == dataset_id).order_by(Pair.pair)
    return list(session.scalars(query))


def count_datasets(session: Session) -> int:
    session.rollback()
    return session.scalar(select(func.count()).select_from(Dataset)) or 0


def test_refusals_are_preferred_and_meta_says_which_answers_they_are(
    client: TestClient, session: Session
) -> None:
    judge = make_judge(session, {0: [ANSWERS, REFUSES], 1: [REFUSES, ANSWERS]}, name="my judge")
    made = make(client, judge)
    assert made["name"] == "Pairs of my judge"
    assert (made["pairs"], made["different"], made["rejected"]) == (2, 2, 0)
    first, second = stored(session, made["dataset_id"])
    assert (first.prompt, second.prompt) == ("Is 0 a number?", CHAT)
    for pair in (first, second):
        assert (pair.preferred, pair.dispreferred) == (REFUSES[0], ANSWERS[0])
    of = judge.config["generate_run"]
    expected = {
        "judge_run": judge.id,
        "generate_run": of,
        "answered_pair": 0,
        "kind": "different",
        "chosen_sample": 1,
        "rejected_sample": 0,
        "chosen_judged": True,
        "rejected_judged": False,
    }
    assert expected.items() <= first.meta.items()


def test_the_other_verdict_may_be_preferred(client: TestClient, session: Session) -> None:
    judge = make_judge(session, {0: [ANSWERS, REFUSES]})
    made = make(client, judge, prefer="negative", name="answers first")
    assert made["name"] == "answers first"
    [pair] = stored(session, made["dataset_id"])
    assert pair.preferred == ANSWERS[0]


def test_prompts_are_counted_by_what_became_of_them(client: TestClient, session: Session) -> None:
    prompts: dict[int, list[Judged]] = {
        0: [ANSWERS, REFUSES],
        1: [("No.", True, None), ("Never.", True, None)],
        2: [("Yes.", False, None), ("Sure.", False, None)],
        3: [REFUSES],
        4: [REFUSES, ("What?", None, None)],
        5: [("Same.", True, None), ("Same.", False, None)],
    }
    judge = make_judge(session, prompts)
    made = make(client, judge)
    assert (made["prompts"], made["pairs"]) == (6, 3)
    assert (made["different"], made["both_positive"], made["both_negative"]) == (1, 1, 1)
    assert made["left_out"] == {"single": 1, "unjudged": 1, "same_text": 1}
    made = make(client, judge, ties="skip")
    assert made["pairs"] == 1
    assert made["left_out"]["skipped"] == 2


def test_a_seed_draws_the_same_order_again(client: TestClient, session: Session) -> None:
    tied: list[Judged] = [("No.", True, None), ("Never.", True, None)]
    judge = make_judge(session, {pair: tied for pair in range(40) if pair != 1})

    def preferred(seed: int) -> list[str]:
        made = make(client, judge, seed=seed)
        return [pair.preferred for pair in stored(session, made["dataset_id"])]

    assert preferred(1) == preferred(1)
    assert preferred(1) != preferred(2)
    assert set(preferred(1)) == {"No.", "Never."}


def test_scores_order_answers_without_verdicts(client: TestClient, session: Session) -> None:
    judge = make_judge(
        session, {0: [("worse", None, -2.0), ("best", None, 3.5), ("so", None, 1.0)]}
    )
    made = make(client, judge, ties="score")
    assert made["by_score"] == 1
    [pair] = stored(session, made["dataset_id"])
    assert (pair.preferred, pair.dispreferred) == ("best", "worse")
    assert pair.meta["chosen_judge_score"] == 3.5


def test_texts_that_look_like_other_formats_stay_as_they_are(
    client: TestClient, session: Session
) -> None:
    """The rows are read as what they are, whatever is in them: no guessing of dialogues."""
    dialogue = "\n\nHuman: Is it?\n\nAssistant: Yes."
    texts = ('{"role": "user"}', dialogue)
    judge = make_judge(session, {0: [(texts[0], True, None), (texts[1], False, None)]})
    [pair] = stored(session, make(client, judge)["dataset_id"])
    assert (pair.preferred, pair.dispreferred) == texts
    assert pair.prompt == "Is 0 a number?"


def test_the_dataset_is_like_an_uploaded_one(client: TestClient, session: Session) -> None:
    prompts: dict[int, list[Judged]] = {
        0: [ANSWERS, REFUSES],
        2: [("", True, None), ("Yes.", False, None)],
    }
    made = make(client, make_judge(session, prompts))
    # A pair with an empty answer is rejected, as one of a file is.
    assert (made["pairs"], made["rejected"]) == (1, 1)
    dataset = client.get(f"{API}/datasets/{made['dataset_id']}").json()
    assert dataset["pairs"] == 1
    assert dataset["columns"]["preferred"] == "chosen"
    assert "issues" in dataset["statistics"]
    rejected = client.get(f"{API}/datasets/{made['dataset_id']}/rejected").json()
    assert rejected["total"] == 1
    assert client.get(f"/datasets/{made['dataset_id']}").status_code == 200
    assert client.get(f"{API}/datasets/{made['dataset_id']}/doctor").status_code == 200
    for form in ("trl", "original"):
        answer = client.get(f"{API}/datasets/{made['dataset_id']}/export", params={"form": form})
        row = json.loads(answer.text.splitlines()[0])
        assert (row["chosen"], row["rejected"]) == (REFUSES[0], ANSWERS[0])
    assert row["chosen_sample"] == 1


def test_no_pair_is_a_conflict_that_says_why(client: TestClient, session: Session) -> None:
    judge = make_judge(session, {0: [REFUSES], 2: [REFUSES, ("x", None, None)]})
    before = count_datasets(session)
    problem = make(client, judge, 409)
    assert "1 prompts have a single answer" in problem["detail"]
    assert "fewer than two judged answers" in problem["detail"]
    assert count_datasets(session) == before


@pytest.mark.parametrize("status", ["running", "failed", "cancelled", "queued"])
def test_unfinished_judges_make_no_pairs(client: TestClient, session: Session, status: str) -> None:
    judge = make_judge(session, {0: [ANSWERS, REFUSES]}, status)
    assert status in make(client, judge, 409)["detail"]


@pytest.mark.parametrize(
    "body", [{"ties": "coin"}, {"prefer": "both"}, {"seed": -1}, {"name": "a\u0000"}, {"x": 1}]
)
def test_requests_that_make_no_sense_are_refused(
    client: TestClient, session: Session, body: dict[str, Any]
) -> None:
    make(client, make_judge(session, {0: [ANSWERS, REFUSES]}), 422, **body)


def test_nothing_is_stored_where_it_fails_midway(
    client: TestClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = make_judge(session, {pair: [ANSWERS, REFUSES] for pair in range(4)})
    before = count_datasets(session)
    monkeypatch.setenv("CHESBOARD_MAX_UPLOAD_BYTES", "600")
    get_settings.cache_clear()
    make(client, judge, 413)
    assert count_datasets(session) == before
    monkeypatch.delenv("CHESBOARD_MAX_UPLOAD_BYTES")
    get_settings.cache_clear()

    def fail(*_: Any) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("app.datasets.storing._describe", fail)  # after all pairs were copied
    with pytest.raises(RuntimeError, match="disk"):
        client.post(f"{API}/runs/{judge.id}/pairs", json={})
    assert count_datasets(session) == before
    assert session.scalar(select(func.count()).select_from(Pair)) == 4


def test_a_run_that_judged_nothing_has_no_pairs_to_make(
    client: TestClient, session: Session
) -> None:
    dataset = factories.dataset(session, 1)
    run = factories.run(session, dataset.id, status="succeeded")
    session.commit()
    make(client, run, 404)
