"""Files whose rows are no pairs by themselves, through the API: the rule, its record, exports."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.app.datasets.test_datasets import API, jsonl, upload
from tests.app.datasets.test_exporting import exported, stored_pairs
from tests.app.datasets.test_preview import preview

RATED: dict[str, Any] = {
    "instruction": "Shall we?",
    "completions": [
        {"response": "Yes.", "overall_score": 9, "model": "a"},
        {"response": "Maybe.", "overall_score": 5, "model": "b"},
        {"response": "No.", "overall_score": 2, "model": "c"},
    ],
    "source": "made up",
    "chosen": "a",
}
KTO = [
    {"prompt": "Shall we?", "completion": "Yes.", "label": True},
    {"prompt": "Shall we?", "completion": "No.", "label": False},
    {"prompt": "Alone?", "completion": "Yes.", "label": True},
]


def test_preview_says_how_rows_become_pairs_and_offers_the_rules(client: TestClient) -> None:
    seen = preview(client, jsonl(RATED, RATED))
    assert (seen["confidence"], seen["reasons"]) == ("sure", [])
    assert (seen["rows"], seen["usable"], seen["format"]) == (2, 2, "rated")
    assert "Each row holds 3 rated responses" in seen["notes"][0]
    assert seen["pairing"] == "best_worst"
    assert [rule["rule"] for rule in seen["pairings"]] == ["best_worst", "best_rest", "all", "gap"]
    assert seen["mapping"]["candidates"] == "completions"
    columns = {column["name"]: column for column in seen["columns"]}
    assert columns["completions"]["role"] == "responses"
    assert columns["completions"]["fields"] == ["response", "overall_score", "model"]
    assert preview(client, jsonl(RATED), pairing="all")["usable"] == 3


def test_preview_of_plain_pairs_offers_no_rule(client: TestClient) -> None:
    seen = preview(client, jsonl({"prompt": "a", "chosen": "b", "rejected": "c"}))
    assert (seen["notes"], seen["pairing"], seen["pairings"]) == ([], None, [])


def test_preview_of_several_rejected_has_no_gap(client: TestClient) -> None:
    seen = preview(client, jsonl({"prompt": "a", "chosen": "b", "rejected": ["c", "d"]}))
    assert (seen["pairing"], seen["usable"]) == ("all", 2)
    assert "gap" not in {rule["rule"] for rule in seen["pairings"]}


def test_rule_is_kept_with_the_dataset(client: TestClient) -> None:
    stored = upload(client, jsonl(RATED, RATED), pairing="gap:4").json()
    assert (stored["pairs"], stored["rejected"], stored["pairing"]) == (4, 0, "gap:4")
    again = client.get(f"{API}/datasets/{stored['id']}").json()
    assert again["notes"] == stored["notes"]
    assert "differ by at least 4" in again["notes"][0]
    pairs = client.get(f"{API}/datasets/{stored['id']}/pairs").json()["items"]
    assert [(pair["pair"], pair["meta"]["row"]) for pair in pairs] == [
        (0, 1),
        (1, 1),
        (2, 2),
        (3, 2),
    ]
    assert (pairs[0]["meta"]["preferred_rating"], pairs[0]["meta"]["preferred_model"]) == (9, "a")
    page = client.get(f"/datasets/{stored['id']}").text
    assert "differ by at least 4" in page


@pytest.mark.parametrize("pairing", ["best", "gap:x"])
@pytest.mark.parametrize("path", ["datasets", "datasets/preview"])
def test_rule_that_is_none_is_refused(client: TestClient, path: str, pairing: str) -> None:
    answer = client.post(
        f"{API}/{path}", files={"file": ("a.jsonl", jsonl(RATED))}, data={"pairing": pairing}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "pairing"


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("form", ["trl", "original"])
@pytest.mark.parametrize("rows", [[RATED, RATED], KTO])
def test_export_is_read_again_as_the_same_pairs(
    client: TestClient, rows: list[Any], form: str, format: str
) -> None:
    first = upload(client, jsonl(*rows), pairing="all").json()["id"]
    again = upload(client, exported(client, first, form=form, format=format), f"a.{format}")
    assert again.json()["rejected"] == 0
    texts = ("prompt", "preferred", "dispreferred")
    assert [
        [pair[name] for name in texts] for pair in stored_pairs(client, again.json()["id"])
    ] == [[pair[name] for name in texts] for pair in stored_pairs(client, first)]


def test_export_in_the_file_s_columns_says_that_pairs_of_lists_have_others(
    client: TestClient,
) -> None:
    stored = upload(client, jsonl(RATED)).json()["id"]
    [row] = [json.loads(line) for line in exported(client, stored, form="original").splitlines()]
    assert row == {
        "prompt": "Shall we?",
        "chosen": "Yes.",
        "rejected": "No.",
        "source": "made up",
        "preferred_rating": 9,
        "preferred_model": "a",
        "dispreferred_rating": 2,
        "dispreferred_model": "c",
    }
    manifest = client.get(f"{API}/datasets/{stored}/export/manifest?form=original").json()
    assert "written as prompt, chosen and rejected" in manifest["notes"][-1]


def test_single_responses_are_paired_and_what_is_left_is_counted(client: TestClient) -> None:
    seen = preview(client, jsonl(*KTO))
    assert (seen["usable"], seen["rejected"], seen["confidence"]) == (1, 1, "unsure")
    assert "1 row has no counterpart with the same prompt" in seen["reasons"][0]
    part = preview(client, jsonl(*KTO, KTO[0]), whole="false")
    assert "the rest of the file may hold them" in part["reasons"][0]
    stored = upload(client, jsonl(*KTO)).json()
    assert stored["statistics"]["rejected"] == {"unpaired": 1}
    rejected = client.get(f"{API}/datasets/{stored['id']}/rejected?reason=unpaired").json()
    assert [item["row"] for item in rejected["items"]] == [3]


def test_single_responses_without_any_pair_are_refused_in_a_sentence(client: TestClient) -> None:
    answer = upload(client, jsonl(KTO[0], KTO[2]))
    assert answer.status_code == 422
    assert "The rows are unpaired (KTO)" in answer.json()["detail"]


def test_doubts_about_the_preference_are_warnings(client: TestClient) -> None:
    row = {
        "prompt": "a",
        "response_0": "b",
        "response_1": "c",
        "better_response_id": 0,
        "safer_response_id": 1,
    }
    assert preview(client, jsonl(row))["confidence"] == "unsure"
    assert "`safer_response_id`" in upload(client, jsonl(row)).json()["warnings"][0]
