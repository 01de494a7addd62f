"""The texts of named pairs, as trainers elsewhere ask for them."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.database import transaction
from tests.app import factories


@pytest.fixture
def dataset_id(client: TestClient) -> int:
    with transaction() as session:
        return factories.dataset(session, 4, name="numbers").id


def texts(client: TestClient, dataset_id: int, *pairs: Any) -> Any:
    return client.get(f"/api/v1/datasets/{dataset_id}/texts", params={"pair": pairs})


def test_named_pairs_come_in_the_order_asked_for_and_as_edited(
    client: TestClient, dataset_id: int
) -> None:
    edit = {"preferred": "Nope", "version": 1}
    answer = client.patch(f"/api/v1/datasets/{dataset_id}/pairs/3", json=edit)
    assert answer.status_code == 200, answer.text
    assert texts(client, dataset_id, 3, 1).json() == {
        "items": [
            {
                "pair": pair,
                "version": version,
                "prompt": f"Is {pair} a number?",
                "preferred": preferred,
                "dispreferred": "Never",
            }
            for pair, version, preferred in ((3, 2, "Nope"), (1, 1, "No"))
        ]
    }


def test_a_pair_that_is_not_there_is_named(client: TestClient, dataset_id: int) -> None:
    answer = texts(client, dataset_id, 0, 4)
    assert answer.status_code == 404
    assert "“numbers”) has no pair 4: it has 4" in answer.json()["detail"]
    assert texts(client, dataset_id + 1, 0).status_code == 404


@pytest.mark.parametrize("pairs", [(), (-1,), ("a",), (2**31,), range(101)])
def test_what_names_no_pairs_is_refused(client: TestClient, dataset_id: int, pairs: Any) -> None:
    assert texts(client, dataset_id, *pairs).status_code == 422
