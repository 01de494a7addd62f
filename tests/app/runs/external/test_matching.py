"""Watched pairs of external runs beside the pairs of their datasets."""

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.database import transaction
from app.store.external import ExternalRun
from tests.app import factories
from tests.app.runs.external.sending import CONFIG, begin, probe, probe_step, send


@pytest.fixture
def dataset_id(client: TestClient) -> int:
    """Its pairs are “No” over “Never”, as those of `probe()` are."""
    with transaction() as session:
        return factories.dataset(session, 3, name="numbers").id


def watching(client: TestClient, dataset_id: int, pair: int = 1, **more: Any) -> int:
    run_id: int = begin(client, dataset_id=dataset_id, **more)["id"]
    answer = send(client, run_id, [probe(pair), probe_step(0, pair), probe_step(9, pair)])
    assert answer.status_code == 200, answer.text
    return run_id


def same_pairs(run_id: int) -> bool | None:
    with transaction() as session:
        return session.get_one(ExternalRun, run_id).same_pairs


def review(client: TestClient, dataset_id: int, **query: Any) -> Any:
    return client.get(f"/api/v1/datasets/{dataset_id}/reviews", params=query)


@pytest.mark.parametrize(
    ("pair", "preferred", "is_same"),
    [
        (1, ["No", "</s>"], True),
        (1, ["\n", "N", "o"], True),
        (1, ["N"], True),
        (1, ["Never"], False),
        (1, [" "], False),
        (3, ["No", "</s>"], False),
    ],
    ids=["with its end", "with a blank before", "cut", "another", "nothing", "no such pair"],
)
def test_pairs_are_the_datasets_where_their_responses_are(
    client: TestClient, dataset_id: int, pair: int, preferred: list[str], is_same: bool
) -> None:
    run_id = begin(client, dataset_id=dataset_id)["id"]
    assert same_pairs(run_id) is None
    send(client, run_id, [replace(probe(pair), preferred_tokens=preferred)])
    assert same_pairs(run_id) is is_same
    messages = client.get(f"/api/v1/runs/{run_id}").json()["messages"]
    assert [f"Pair {pair} of this run is not" in one for one in messages] == [True] * (not is_same)


def test_one_other_pair_is_enough_for_another_numbering(
    client: TestClient, dataset_id: int
) -> None:
    watched = {
        "pair": 0,
        "prompt": "Is it?",
        "preferred_tokens": ["No"],
        "dispreferred_tokens": ["Never"],
        "fork_position": 0,
    }
    both = [watched, {**watched, "pair": 1, "preferred_tokens": ["Yes"]}]
    run_id = begin(client, dataset_id=dataset_id, config={**CONFIG, "probes": both})["id"]
    assert same_pairs(run_id) is False
    send(client, run_id, [probe(2)])
    assert same_pairs(run_id) is False
    assert same_pairs(begin(client, config={**CONFIG, "probes": both})["id"]) is None


def test_the_review_of_the_dataset_shows_what_became_of_them(
    client: TestClient, dataset_id: int
) -> None:
    run_id = watching(client, dataset_id, name="by another trainer")
    found = review(client, dataset_id, displaced=True).json()
    assert [item["pair"] for item in found["items"]] == [1]
    assert found["items"][0]["displacement"]["run_id"] == run_id
    again = review(client, dataset_id, displacement_run=run_id, displaced=True).json()
    assert again["items"] == found["items"]
    with transaction() as session:
        factories.run(session, dataset_id, name="our own")
    page = client.get(f"/datasets/{dataset_id}/review").text
    assert "by another trainer" in page
    assert "our own" in page


def test_a_run_with_a_numbering_of_its_own_does_not_stand_there(
    client: TestClient, dataset_id: int
) -> None:
    run_id = begin(client, dataset_id=dataset_id, name="numbers otherwise")["id"]
    other = replace(probe(1), preferred_tokens=["Maybe", "</s>"])
    send(client, run_id, [other, probe_step(0, 1), probe_step(9, 1)])
    assert review(client, dataset_id, displaced=True).status_code == 422
    answer = review(client, dataset_id, displacement_run=run_id)
    assert answer.status_code == 422
    assert "numbers its pairs its own way" in answer.json()["detail"]
    assert "numbers otherwise" not in client.get(f"/datasets/{dataset_id}/review").text
