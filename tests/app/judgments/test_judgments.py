"""Judge runs through the API: requests, verdicts, agreement, and deletion."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.store.runs import Run, RunSelection
from app.store.selection import record_selection
from chesboard.configs import Selection
from chesboard.judging.intervals import wilson_interval
from chesboard.refusals import REFUSAL_KEYWORDS
from tests.app import factories
from tests.tiny_models.classifiers import LABELS, save_classifier, save_reward_model

API = "/api/v1"
ANSWERS = {
    (0, 0): "I'm sorry, no.",
    (0, 1): "Sure, it is 100% so.",
    (1, 0): "I cannot.",
    (1, 1): "I can't.",
    (2, 0): "Yes.",
    (2, 1): "It_is.",
}


def answered(session: Session, status: str = "succeeded", pairs: int = 3) -> Run:
    dataset = factories.dataset(session, pairs)
    run = factories.run(session, dataset.id, kind="generate", status=status)
    record_selection(session, run.id, dataset.id, Selection())
    for (pair, sample), text in ANSWERS.items():
        factories.generation(session, run.id, pair, sample, text, ended=sample == 0)
    session.commit()
    return run


def judged(session: Session, of: Run, verdicts: dict[Any, Any], **config: Any) -> Run:
    """A finished judge; verdicts: (pair, sample) → verdict, or (verdict, score, reason)."""
    run = factories.run(
        session,
        of.dataset_id,
        kind="judge",
        status="succeeded",
        config={"generate_run": of.id, **config},
    )
    for (pair, sample), verdict in verdicts.items():
        given = verdict if isinstance(verdict, tuple) else (verdict,)
        factories.judgment(session, run.id, pair, sample, *given)
    session.commit()
    return run


ALL = {key: key in {(0, 0), (1, 0), (1, 1)} for key in ANSWERS}


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(f"{API}{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(client: TestClient, of: Run, status: int = 201, **config: Any) -> Any:
    body = {
        "kind": "judge",
        "dataset_id": of.dataset_id,
        "config": {"generate_run": of.id, **config},
    }
    answer = client.post(f"{API}/runs", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


# --- requests ------------------------------------------------------------------------------------


def test_a_judge_is_queued_with_the_list_that_is_shown(
    client: TestClient, session: Session
) -> None:
    of = answered(session)
    run = post(client, of)
    assert run["config"]["keywords"] == list(REFUSAL_KEYWORDS)
    assert run["name"] == "keywords on generate run"
    assert run["progress"]["unit"] == "answers"
    given = session.get_one(RunSelection, run["id"])
    assert given.pairs == [0, 1, 2]


@pytest.mark.parametrize("status", ["running", "failed", "cancelled"])
def test_only_finished_runs_are_judged(client: TestClient, session: Session, status: str) -> None:
    problem = post(client, answered(session, status), 422)
    assert problem["errors"][0]["field"] == "config.generate_run"
    assert status in problem["detail"]


def test_only_generated_answers_of_this_dataset_are_judged(
    client: TestClient, session: Session
) -> None:
    of = answered(session)
    trained = factories.run(session, of.dataset_id, status="succeeded")
    other = factories.dataset(session, 1)
    session.commit()
    assert "generated no answers" in post(client, trained, 422)["detail"]
    body = {"kind": "judge", "dataset_id": other.id, "config": {"generate_run": of.id}}
    assert "answered dataset" in client.post(f"{API}/runs", json=body).json()["detail"]
    body["config"] = {"generate_run": 999_999}
    assert "no run 999999" in client.post(f"{API}/runs", json=body).json()["detail"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"judge": "classifier"}, "needs the name"),
        ({"judge": "endpoint"}, "endpoint_model"),
        ({"judge": "endpoint", "endpoint_model": "m", "question": "Is it?"}, "{answer}"),
        ({"keywords": []}, "keywords"),
        ({"keywords": [" "]}, "keywords"),
        ({"keywords": ["a\u0000"]}, "keywords"),
        ({"judge": "oracle"}, "judge"),
        ({"model": "tiny"}, "model"),
    ],
)
def test_incomplete_judges_are_refused(
    client: TestClient, session: Session, config: dict[str, Any], said: str
) -> None:
    problem = post(client, answered(session), 422, **config)
    assert said in json.dumps(problem)


def test_an_endpoint_has_to_be_set_up_and_is_not_told(
    client: TestClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = answered(session)
    config: dict[str, Any] = {"judge": "endpoint", "endpoint_model": "judge-7b"}
    problem = post(client, of, 422, **config)
    assert problem["errors"][0]["field"] == "config.judge"
    assert "CHESBOARD_JUDGE_URL" in problem["detail"]
    secrets = {"CHESBOARD_JUDGE_URL": "http://judge.internal:9/v1", "CHESBOARD_JUDGE_KEY": "sk-42"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    run = post(client, of, **config)
    assert run["name"] == "judge-7b on generate run"
    told = [
        json.dumps(run),
        client.get(f"/runs/{run['id']}").text,
        client.get(f"/runs/{of.id}/judge").text,
        client.get(f"{API}/status").text,
        client.get("/status").text,
        json.dumps(session.get_one(Run, run["id"]).config),
    ]
    for text in told:
        assert "judge.internal" not in text
        assert "sk-42" not in text


def test_a_classifier_and_its_label_are_looked_up(
    client: TestClient, session: Session, models_dir: Path
) -> None:
    save_classifier(models_dir / "bert")
    save_reward_model(models_dir / "reward")
    of = answered(session)
    problem = post(client, of, 422, judge="classifier", classifier="other", label="refuses")
    assert problem["errors"][0]["field"] == "config.classifier"
    assert "There are: bert, reward" in problem["detail"]
    problem = post(client, of, 422, judge="classifier", classifier="bert")
    assert problem["errors"][0]["field"] == "config.label"
    assert all(label in problem["detail"] for label in LABELS.values())
    post(client, of, judge="classifier", classifier="bert", label="refuses")
    post(client, of, judge="classifier", classifier="reward")


def test_answers_that_are_judged_are_not_deleted(client: TestClient, session: Session) -> None:
    of = answered(session)
    judge = judged(session, of, ALL)
    refused = client.delete(f"{API}/runs/{of.id}")
    assert refused.status_code == 409
    assert f"run {judge.id}" in refused.json()["detail"]
    assert client.delete(f"{API}/runs/{judge.id}").status_code == 204
    assert client.delete(f"{API}/runs/{of.id}").status_code == 204


# --- verdicts ------------------------------------------------------------------------------------


def test_each_verdict_stands_with_its_answer_and_prompt(
    client: TestClient, session: Session
) -> None:
    judge = judged(session, answered(session), ALL | {(1, 1): (None, None, "said neither")})
    page = get(client, f"/runs/{judge.id}/judgments")
    assert page["total"] == len(ANSWERS)
    assert [(one["pair"], one["sample"]) for one in page["items"]] == sorted(ANSWERS)
    assert page["items"][3] == {
        "pair": 1,
        "sample": 1,
        "verdict": None,
        "score": None,
        "reason": "said neither",
        "answer": "I can't.",
        "ended": False,
        "prompt": "Is 1 a number?",
    }
    page = get(client, f"/runs/{judge.id}/judgments", offset=4, limit=1)
    assert [(one["pair"], one["sample"]) for one in page["items"]] == [(2, 0)]


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ({"verdict": "positive"}, [(0, 0), (1, 0)]),
        ({"verdict": "negative"}, [(0, 1), (2, 0), (2, 1)]),
        ({"verdict": "none"}, [(1, 1)]),
        ({"search": "SORRY"}, [(0, 0)]),
        ({"search": "100%"}, [(0, 1)]),
        ({"search": "_"}, [(2, 1)]),
        ({"search": "%"}, [(0, 1)]),
        ({"verdict": "negative", "search": "yes"}, [(2, 0)]),
    ],
)
def test_answers_by_verdict_and_by_text(
    client: TestClient, session: Session, query: dict[str, str], keys: list[Any]
) -> None:
    judge = judged(session, answered(session), ALL | {(1, 1): None})
    page = get(client, f"/runs/{judge.id}/judgments", **query)
    assert [(one["pair"], one["sample"]) for one in page["items"]] == keys
    assert page["total"] == len(keys)


def test_answers_of_one_judge_are_not_those_of_another(
    client: TestClient, session: Session
) -> None:
    of, other = answered(session), answered(session)
    judge, _ = judged(session, of, ALL), judged(session, other, ALL)
    assert get(client, f"/runs/{judge.id}/judgments")["total"] == len(ANSWERS)


def test_the_rate_has_a_wilson_interval_and_prompts_are_counted_by_kind(
    client: TestClient, session: Session
) -> None:
    judge = judged(session, answered(session), ALL)
    found = get(client, f"/runs/{judge.id}/judgments/summary")
    assert (found["answers"], found["judged"], found["positive"]) == (6, 6, 3)
    assert found["rate"] == 0.5
    assert (found["low"], found["high"]) == pytest.approx(wilson_interval(3, 6))
    assert found["prompts"] == {
        "different": 1,
        "both_positive": 1,
        "both_negative": 1,
        "by_score": 0,
        "others": 0,
    }
    assert found["mean_score"] is None


def test_a_judge_that_has_not_begun_has_no_rate(client: TestClient, session: Session) -> None:
    judge = judged(session, answered(session), {(0, 0): (None, 1.5), (0, 1): (None, 2.5)})
    found = get(client, f"/runs/{judge.id}/judgments/summary")
    assert (found["judged"], found["unjudged"], found["rate"], found["low"]) == (2, 2, None, None)
    assert found["mean_score"] == 2.0
    assert found["prompts"]["by_score"] == 1


def test_downloads_hold_every_verdict(client: TestClient, session: Session) -> None:
    verdicts = ALL | {(0, 0): (True, 0.5, "=1+1")}
    judge = judged(session, answered(session), verdicts)
    lines = client.get(f"{API}/runs/{judge.id}/judgments?format=jsonl")
    assert "attachment" in lines.headers["content-disposition"]
    rows = [json.loads(line) for line in lines.text.splitlines()]
    assert {(row["pair"], row["sample"]): row["verdict"] for row in rows} == ALL
    assert rows[0]["answer"] == ANSWERS[0, 0]
    table = list(
        csv.DictReader(client.get(f"{API}/runs/{judge.id}/judgments?format=csv").text.splitlines())
    )
    assert [row["verdict"] for row in table] == [json.dumps(ALL[key]) for key in sorted(ALL)]
    assert table[0]["reason"] == "'=1+1"
    assert table[0]["score"] == "0.5"


def test_a_download_holds_what_the_page_was_filtered_to(
    client: TestClient, session: Session
) -> None:
    of = answered(session)
    judge, other = judged(session, of, ALL), judged(session, of, ALL | {(0, 0): not ALL[0, 0]})
    for query in (
        {"verdict": "positive"},
        {"search": ANSWERS[0, 0].upper()},
        {"pair": "1"},
        {"differs_from": str(other.id)},
    ):
        page = get(client, f"/runs/{judge.id}/judgments", **query)["items"]
        at = f"{API}/runs/{judge.id}/judgments"
        lines = client.get(at, params={**query, "format": "jsonl", "offset": 1, "limit": 1}).text
        found = [json.loads(line) for line in lines.splitlines()]
        assert 0 < len(found) < len(ANSWERS)
        keys = [(one["pair"], one["sample"]) for one in page]
        assert [(one["pair"], one["sample"]) for one in found] == keys
    wrong = client.get(f"{API}/runs/{judge.id}/judgments?format=csv&differs_from={of.id}")
    assert wrong.status_code == 422


@pytest.mark.parametrize(
    "path", ["judgments", "judgments?format=csv", "judgments?format=jsonl", "judgments/summary"]
)
def test_other_runs_have_no_verdicts(client: TestClient, session: Session, path: str) -> None:
    of = answered(session)
    assert client.get(f"{API}/runs/{of.id}/{path}").status_code == 404
    assert client.get(f"{API}/runs/{10**30}/{path}").status_code in (404, 422)


# --- agreement -----------------------------------------------------------------------------------


def test_two_judges_of_the_same_answers_are_compared(client: TestClient, session: Session) -> None:
    of = answered(session)
    first = judged(session, of, ALL)
    second = judged(session, of, ALL | {(1, 1): False, (2, 0): None})
    [item] = get(client, "/judgments/agreement", runs=f"{first.id},{second.id}")["items"]
    assert (item["first"]["run_id"], item["second"]["run_id"]) == (first.id, second.id)
    assert item["compared"] == 5
    assert (item["both_positive"], item["first_only"], item["second_only"]) == (2, 1, 0)
    assert (item["both_negative"], item["unjudged"]) == (2, 1)
    assert item["raw"] == pytest.approx(4 / 5)
    # p_e = .6 · .4 + .4 · .6
    assert item["kappa"] == pytest.approx((0.8 - 0.48) / (1 - 0.48))
    [shown] = get(client, f"/runs/{first.id}/judgments/summary")["others"]
    assert shown == item
    page = get(client, f"/runs/{first.id}/judgments", differs_from=second.id)
    assert [(one["pair"], one["sample"]) for one in page["items"]] == [(1, 1)]


def test_every_two_of_several_judges(client: TestClient, session: Session) -> None:
    of = answered(session)
    ids = [judged(session, of, ALL).id for _ in range(3)]
    items = get(client, "/judgments/agreement", runs=",".join(map(str, ids)))["items"]
    assert len(items) == 3
    assert all(item["kappa"] == 1 for item in items)


def test_judges_of_other_answers_are_not_compared(client: TestClient, session: Session) -> None:
    first = judged(session, answered(session), ALL)
    other = judged(session, answered(session), ALL)
    query = {"runs": f"{first.id},{other.id}"}
    refused = client.get(f"{API}/judgments/agreement", params=query)
    assert refused.status_code == 422
    assert "different answers" in refused.json()["detail"]
    path = f"{API}/runs/{first.id}/judgments"
    assert client.get(path, params={"differs_from": other.id}).status_code == 422


@pytest.mark.parametrize("runs", ["", "x", "1", "1,1", ",".join("1" * 30), "1,9999999"])
def test_what_names_no_two_judges_is_refused(
    client: TestClient, session: Session, runs: str
) -> None:
    answer = client.get(f"{API}/judgments/agreement", params={"runs": runs})
    assert answer.status_code == 422
    assert "runs" in answer.text


# --- pages ---------------------------------------------------------------------------------------


def test_the_form_shows_the_list_and_what_is_in_the_models_folder(
    client: TestClient, session: Session, models_dir: Path
) -> None:
    save_classifier(models_dir / "bert")
    of = answered(session)
    page = client.get(f"/runs/{of.id}/judge").text
    assert "I&#39;m sorry" in page
    assert 'value="bert"' in page
    assert "CHESBOARD_JUDGE_URL" in page
    earlier = judged(session, of, {}, keywords=["none of these"])
    page = client.get(f"/runs/{of.id}/judge", params={"like": earlier.id}).text
    assert "none of these" in page
    assert client.get(f"/runs/{earlier.id}/judge").status_code == 404
    assert client.get(f"/datasets/{of.dataset_id}/new", params={"kind": "judge"}).status_code == 404


def test_pages_name_what_judged(client: TestClient, session: Session) -> None:
    judge = judged(session, answered(session), ALL, judge="classifier", classifier="bert")
    assert "bert" in client.get(f"/runs/{judge.id}").text
    assert "bert" in client.get("/runs").text
    assert "bert" in client.get("/").text
