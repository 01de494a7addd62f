"""odpo's offsets through the API, for each form that gives scores, and runs that need them."""

import math
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.app.datasets.test_datasets import API, jsonl, upload
from tests.app.runs.test_runs import post

ANSWERS = {"human_ref_A": "one", "human_ref_B": "two"}
PLAIN = {"prompt": "Hm?", "chosen": "yes", "rejected": "no"}
ROWS: dict[str, dict[str, Any]] = {
    "TRL's columns": {**PLAIN, "score_chosen": 8, "score_rejected": 3.5},
    "ratings as text": {**PLAIN, "chosen-rating": "8", "rejected-rating": "3.5"},
    "rated responses": {
        "instruction": "Hm?",
        "completions": [
            {"response": "no", "overall_score": 3.5},
            {"response": "yes", "overall_score": 8},
        ],
    },
    "SHP, first": {"history": "Hm?", **ANSWERS, "labels": 1, "score_A": 8, "score_B": 3.5},
    "SHP, second": {"history": "Hm?", **ANSWERS, "labels": 0, "score_A": 3.5, "score_B": 8},
    "SHP by scores": {"history": "Hm?", **ANSWERS, "score_A": 3.5, "score_B": 8},
    "WebGPT": {
        "question": "Hm?",
        "answer_0": "no",
        "answer_1": "yes",
        "score_0": 3.5,
        "score_1": 8,
    },
}


def stored(client: TestClient, *rows: dict[str, Any]) -> int:
    answer = upload(client, jsonl(*rows))
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def offsets(client: TestClient, dataset: int, **asked: Any) -> dict[str, Any]:
    answer = client.get(f"{API}/datasets/{dataset}/offsets", params=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("form", ROWS)
def test_each_form_gives_the_scores_of_both_responses(client: TestClient, form: str) -> None:
    dataset = stored(client, ROWS[form])
    found = offsets(client, dataset)
    assert found["median"] == pytest.approx(math.log(4.5))
    assert (found["pairs"], found["strengthened"], found["weakened"]) == (1, 1, 0)
    ratio = offsets(client, dataset, odpo_offset="log_ratio", odpo_alpha=2)
    assert ratio["median"] == pytest.approx(2 * math.log(8 / 3.5))


def test_shp_that_prefers_the_lower_score_has_no_offset(client: TestClient) -> None:
    found = offsets(client, stored(client, {**ROWS["SHP, second"], "score_A": 9}))
    assert (found["not_above"], found["median"]) == (1, None)


def test_pairs_without_an_offset_are_counted_by_reason(client: TestClient) -> None:
    dataset = stored(
        client,
        *[
            {**PLAIN, "prompt": str(n), "score_chosen": high, "score_rejected": low}
            for n, (high, low) in enumerate([(8, 3), (3, 2.5), (1, -1), (2, 2), (4, None)])
        ],
    )
    found = offsets(client, dataset)
    assert found["columns"] == ["score_chosen", "score_rejected"]
    counts = [found[name] for name in ("pairs", "unscored", "not_above", "no_ratio", "weakened")]
    assert counts == [5, 1, 1, 0, 1]
    assert sum(found["histogram"]["counts"]) == 3
    ratio = offsets(client, dataset, odpo_offset="log_ratio")
    assert (ratio["no_ratio"], ratio["weakened"]) == (1, 0)
    none = offsets(client, dataset, odpo_alpha=0)
    assert (none["median"], none["weakened"], none["histogram"]["counts"]) == (0, 0, [3])


def test_training_on_pairs_without_scores_is_refused_with_their_number(
    client: TestClient,
) -> None:
    scored = {**PLAIN, "score_chosen": 8, "score_rejected": 3}
    dataset = stored(client, scored, {**PLAIN, "prompt": "And?"})
    refused = post(client, dataset, config={"objective": "odpo"})
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert error["field"] == "config.odpo_unscored"
    assert error["message"].startswith("1 of 2 pairs has no offset (1 without two scores).")
    for config in ({"odpo_unscored": "zero"}, {"selection": {"pairs": [0]}}):
        answer = post(client, dataset, config={"objective": "odpo", **config})
        assert answer.status_code == 201, answer.text


def test_the_bounds_are_those_of_the_setting(client: TestClient) -> None:
    dataset = stored(client, ROWS["WebGPT"])
    answer = client.get(f"{API}/datasets/{dataset}/offsets", params={"odpo_alpha": -1})
    assert answer.status_code == 422
    assert client.get(f"{API}/datasets/999/offsets").status_code == 404
