"""Scores and flags through the API, against plain Python over the same numbers."""

import csv
import io
import json
import statistics
from dataclasses import fields
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.core.csv import FORMULA_SIGNS
from app.scores.schemas import SORTABLE, ScoreOut
from app.store.scores import Score
from chesboard.measures.registry import MEASURE_NAMES
from chesboard.records import ScoreRecord
from tests.app import factories

API = "/api/v1"
NAN, INF = float("nan"), float("inf")
CHES: list[float | None] = [-3.0, 5.0, None, NAN, 1.0, INF, 5.0, -INF]
DOWN = [1, 6, 4, 0, 2, 3, 5, 7]
UP = [0, 4, 1, 6, 2, 3, 5, 7]


@pytest.fixture
def run_id(session: Session) -> int:
    """A finished score run over eight pairs with the values above."""
    return scored(session, CHES)


def scored(session: Session, ches: list[float | None], **columns: Any) -> int:
    pairs = [(f"Prompt {n}?", f"Good, {n}", f"Bad\n“{n}”") for n in range(len(ches))]
    dataset = factories.dataset(session, pairs)
    run = factories.run(session, dataset.id, **{"kind": "score", "status": "succeeded"} | columns)
    for pair, value in enumerate(ches):
        factories.score(session, run.id, pair, value, normalized_edit_distance=0.9 - pair / 10)
    session.commit()
    return run.id


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(f"{API}{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def dataset_of(client: TestClient, run_id: int) -> int:
    found: int = get(client, f"/runs/{run_id}")["dataset_id"]
    return found


def pairs(page: dict[str, Any]) -> list[int]:
    return [item["pair"] for item in page["items"]]


# --- the list --------------------------------------------------------------------------------


def test_the_highest_ches_comes_first_and_what_has_none_last(
    client: TestClient, run_id: int
) -> None:
    page = get(client, f"/runs/{run_id}/scores")
    assert page["total"] == 8
    assert pairs(page) == DOWN
    assert [item["ches"] for item in page["items"]] == [5, 5, 1, -3, None, None, None, None]
    assert pairs(get(client, f"/runs/{run_id}/scores", sort="ches")) == UP


@pytest.mark.parametrize("sort", ["pair", "-pair", "normalized_edit_distance", "preferred_logprob"])
def test_any_column_sorts(client: TestClient, run_id: int, sort: str) -> None:
    name = sort.removeprefix("-")
    values = [item[name] for item in get(client, f"/runs/{run_id}/scores", sort=sort)["items"]]
    assert values == sorted(values, reverse=sort.startswith("-"))


def test_pages_of_a_sorted_list_neither_overlap_nor_skip(client: TestClient, run_id: int) -> None:
    found = []
    for offset in (0, 3, 6):
        found += pairs(get(client, f"/runs/{run_id}/scores", offset=offset, limit=3))
    assert found == DOWN


def test_a_score_has_everything_that_the_table_shows(client: TestClient, run_id: int) -> None:
    first = get(client, f"/runs/{run_id}/scores", limit=1)["items"][0]
    assert first == {
        "pair": 1,
        "ches": 5.0,
        "ln_ches": 0.05,
        "last_hidden_inner_product": 0.5,
        "normalized_edit_distance": 0.8,
        "preferred_logprob": -3.0,
        "dispreferred_logprob": -4.0,
        "implicit_gap": None,
        "length_gap": None,
        "head_shift": None,
        "head_cosine": None,
        "preferred_grad_norm": None,
        "dispreferred_grad_norm": None,
        "preferred_tokens": 2,
        "dispreferred_tokens": 2,
        "prompt_tokens": 10,
        "cut_tokens": 0,
        "preferred_ends": [2],
        "dispreferred_ends": [5],
        "percentile": pytest.approx(200 / 3),
        "flagged": False,
    }


def test_the_percentile_is_of_the_pairs_that_have_a_ches(client: TestClient, run_id: int) -> None:
    items = get(client, f"/runs/{run_id}/scores")["items"]
    assert [item["percentile"] for item in items] == [
        pytest.approx(200 / 3),
        pytest.approx(200 / 3),
        pytest.approx(100 / 3),
        0,
        None,
        None,
        None,
        None,
    ]


def test_texts_come_along_where_they_are_asked_for(client: TestClient, run_id: int) -> None:
    first = get(client, f"/runs/{run_id}/scores", with_text=True)["items"][0]
    assert (first["prompt"], first["preferred"], first["dispreferred"]) == (
        "Prompt 1?",
        "Good, 1",
        "Bad\n“1”",
    )


@pytest.mark.parametrize("sort", ["nonsense", "--ches", "run_id", "ches;drop table runs", ""])
def test_what_is_no_column_is_refused(client: TestClient, run_id: int, sort: str) -> None:
    answer = client.get(f"{API}/runs/{run_id}/scores", params={"sort": sort})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "sort"


@pytest.mark.parametrize(("kind", "called"), [("train", "training"), ("check", "check")])
def test_a_run_that_scores_nothing_has_no_scores(
    client: TestClient, session: Session, kind: str, called: str
) -> None:
    run = factories.run(session, factories.dataset(session).id, kind=kind)
    session.commit()
    for path in ("scores", "scores?format=csv", "scores/summary"):
        answer = client.get(f"{API}/runs/{run.id}/{path}")
        assert answer.status_code == 404
        assert f"is a {called} run" in answer.json()["detail"]


# --- downloads -------------------------------------------------------------------------------


def test_csv_and_jsonl_hold_every_pair_in_the_asked_order(client: TestClient, run_id: int) -> None:
    items = get(client, f"/runs/{run_id}/scores", sort="ches", with_text=True)["items"]
    query: dict[str, Any] = {"sort": "ches", "with_text": True, "limit": 1}
    lines = client.get(f"{API}/runs/{run_id}/scores", params={**query, "format": "jsonl"}).text
    assert [json.loads(line) for line in lines.splitlines()] == items
    text = client.get(f"{API}/runs/{run_id}/scores", params={**query, "format": "csv"}).text
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert [int(row["pair"]) for row in rows] == UP
    assert rows[0]["dispreferred"] == "Bad\n“0”"
    assert [row["ches"] for row in rows][3:5] == ["5.0", ""]
    assert rows[0]["preferred_ends"] == "[2]"


@pytest.mark.parametrize("sign", FORMULA_SIGNS)
def test_csv_texts_are_no_formulas_to_a_spreadsheet(
    client: TestClient, session: Session, sign: str
) -> None:
    texts = (f"{sign}1+1", f"{sign}A1", f"{sign}B1")
    dataset = factories.dataset(session, [texts])
    run = factories.run(session, dataset.id, kind="score", status="succeeded")
    factories.score(session, run.id, 0, -3.0)
    session.commit()
    names = ("prompt", "preferred", "dispreferred")
    path = f"{API}/runs/{run.id}/scores"
    text = client.get(path, params={"with_text": True, "format": "csv"}).text
    [row] = csv.DictReader(io.StringIO(text, newline=""))
    assert tuple(row[name] for name in names) == tuple(f"'{text}" for text in texts)
    assert row["ches"] == "-3.0"  # a number is no formula
    line = client.get(path, params={"with_text": True, "format": "jsonl"}).json()
    assert tuple(line[name] for name in names) == texts


@pytest.mark.parametrize("name", MEASURE_NAMES)
def test_every_measure_has_its_column_and_field(name: str) -> None:
    assert name in Score.__table__.c
    assert name in ScoreOut.model_fields
    assert name in {field.name for field in fields(ScoreRecord)}
    assert name in SORTABLE


# --- the summary -----------------------------------------------------------------------------


def test_the_summary_is_that_of_the_finite_values(client: TestClient, session: Session) -> None:
    values = [((7 * n) % 101) / 3 for n in range(101)]
    run_id = scored(session, [*values, None, NAN, INF])
    summary = get(client, f"/runs/{run_id}/scores/summary")
    assert summary["total"] == 104
    assert set(summary["measures"]) == set(MEASURE_NAMES)
    ches = summary["measures"]["ches"]
    assert (ches["count"], ches["nonfinite"]) == (101, 2)
    assert (ches["minimum"], ches["maximum"]) == (min(values), max(values))
    assert ches["mean"] == pytest.approx(statistics.fmean(values))
    percentiles = statistics.quantiles(values, n=100, method="inclusive")
    for percent, value in ches["quantiles"].items():
        assert value == pytest.approx(percentiles[int(percent) - 1])
    assert list(ches["quantiles"]) == ["1", "5", "25", "50", "75", "95", "99"]


def test_the_histogram_counts_every_finite_value_once(client: TestClient, session: Session) -> None:
    values = [n * n / 10 for n in range(200)]
    run_id = scored(session, [*values, NAN])
    histogram = get(client, f"/runs/{run_id}/scores/summary")["measures"]["ches"]["histogram"]
    assert len(histogram) == 40
    assert sum(one["count"] for one in histogram) == 200
    assert (histogram[0]["low"], histogram[-1]["high"]) == (0, max(values))
    for one in histogram[:-1]:
        assert one["count"] == sum(one["low"] <= value < one["high"] for value in values)


def test_one_value_alone_is_one_bin_and_no_value_none(client: TestClient, session: Session) -> None:
    measures = get(client, f"/runs/{scored(session, [2.5, 2.5])}/scores/summary")["measures"]
    assert measures["ches"]["histogram"] == [{"low": 2.5, "high": 2.5, "count": 2}]
    measures = get(client, f"/runs/{scored(session, [None])}/scores/summary")["measures"]
    assert (measures["ches"]["count"], measures["ches"]["mean"]) == (0, None)
    assert (measures["ches"]["histogram"], measures["ches"]["quantiles"]) == ([], {})


# --- flags -----------------------------------------------------------------------------------


def flag(client: TestClient, run_id: int, **wanted: Any) -> Any:
    body = {"score_run": run_id, "measure": "ches", **wanted}
    return client.post(f"{API}/datasets/{dataset_of(client, run_id)}/flags", json=body)


@pytest.mark.parametrize(
    ("fraction", "flagged"), [(0.25, [1]), (0.26, [1, 6]), (0.5, [1, 6]), (1, [1, 6, 4, 0])]
)
def test_a_share_of_the_scored_pairs_is_flagged_the_highest_first(
    client: TestClient, run_id: int, fraction: float, flagged: list[int]
) -> None:
    queue = flag(client, run_id, top_fraction=fraction).json()
    assert pairs(queue) == flagged
    assert (queue["flagged"], queue["score_run"], queue["measure"]) == (
        len(flagged),
        run_id,
        "ches",
    )
    assert get(client, f"/datasets/{dataset_of(client, run_id)}/flags") == queue


def test_a_whole_number_of_pairs_is_not_rounded_up(client: TestClient, session: Session) -> None:
    run_id = scored(session, [float(n) for n in range(100)])
    assert flag(client, run_id, top_fraction=0.07).json()["flagged"] == 7


def test_everything_from_a_threshold_on_is_flagged(client: TestClient, run_id: int) -> None:
    queue = flag(client, run_id, threshold=1).json()
    assert queue["items"] == [
        {"pair": 1, "value": 5},
        {"pair": 6, "value": 5},
        {"pair": 4, "value": 1},
    ]
    assert flag(client, run_id, threshold=99).json()["flagged"] == 0


def test_by_edit_distance_the_smallest_are_the_most_alike(client: TestClient, run_id: int) -> None:
    measure = {"measure": "normalized_edit_distance"}
    assert pairs(flag(client, run_id, top_fraction=0.25, **measure).json()) == [7, 6]
    assert pairs(flag(client, run_id, threshold=0.35, **measure).json()) == [7, 6]


def test_the_pairs_of_a_selection_are_flagged(client: TestClient, run_id: int) -> None:
    queue = flag(client, run_id, pairs=[0, 6, 4, 6]).json()
    assert queue["items"] == [
        {"pair": 6, "value": 5},
        {"pair": 4, "value": 1},
        {"pair": 0, "value": -3},
    ]
    assert flag(client, run_id, pairs=[]).json()["flagged"] == 0


def test_a_pair_without_a_score_cannot_be_selected_and_nothing_changes(
    client: TestClient, run_id: int
) -> None:
    flag(client, run_id, pairs=[1])
    # pair 2 has no value, pair 3 none that is finite, and there is no pair 8
    answer = flag(client, run_id, pairs=[0, 2, 3, 8])
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "pairs", "message": "No score in this run: pairs 2, 3, 8."}
    ]
    assert pairs(get(client, f"/datasets/{dataset_of(client, run_id)}/flags")) == [1]


def test_flagging_anew_replaces_the_queue_and_scores_show_it(
    client: TestClient, run_id: int
) -> None:
    flag(client, run_id, top_fraction=1)
    flag(client, run_id, top_fraction=0.25)
    items = get(client, f"/runs/{run_id}/scores")["items"]
    assert [item["pair"] for item in items if item["flagged"]] == [1]


def test_the_queue_is_emptied(client: TestClient, run_id: int) -> None:
    path = f"{API}/datasets/{dataset_of(client, run_id)}/flags"
    flag(client, run_id, top_fraction=1)
    assert client.delete(path).status_code == 204
    queue = client.get(path).json()
    assert (queue["flagged"], queue["items"], queue["measure"]) == (0, [], None)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({}, None),
        ({"top_fraction": 0.1, "threshold": 1}, None),
        ({"top_fraction": 0.1, "pairs": [1]}, None),
        ({"pairs": [-1]}, "pairs.0"),
        ({"top_fraction": 0}, "top_fraction"),
        ({"top_fraction": 1.5}, "top_fraction"),
        ({"top_fraction": 0.1, "measure": "beauty"}, "measure"),
        ({"top_fraction": 0.1, "score_run": 99}, "score_run"),
        ({"top_fraction": 0.1, "score_run": 2**70}, "score_run"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    client: TestClient, run_id: int, wanted: dict[str, Any], field: str | None
) -> None:
    answer = flag(client, run_id, **wanted)
    assert answer.status_code == 422
    assert answer.json()["errors"][0].get("field") == field


def test_scores_of_another_dataset_are_refused(
    client: TestClient, session: Session, run_id: int
) -> None:
    other = scored(session, [1.0])
    answer = flag(client, run_id, score_run=other, top_fraction=0.1)
    assert answer.status_code == 422
    assert "not" in answer.json()["detail"]
    assert answer.json()["errors"][0]["field"] == "score_run"


def test_an_unfinished_score_run_cannot_flag(client: TestClient, session: Session) -> None:
    run_id = scored(session, [1.0], status="running")
    assert flag(client, run_id, top_fraction=0.1).status_code == 409


def test_a_dataset_that_is_not_there_has_no_queue(client: TestClient) -> None:
    for dataset_id in (99, 2**70):
        path = f"{API}/datasets/{dataset_id}/flags"
        assert client.get(path).status_code == 404
        assert client.delete(path).status_code == 404
        body = {"score_run": 1, "top_fraction": 0.1}
        assert client.post(path, json=body).status_code == 404
