"""Of a body with very many errors their number is told, at once."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from app.core.errors import MOST_FIELD_ERRORS

API = "/api/v1"
WRONG = 20_000
FORMS = "fastapi._compat"


def json_routes(routes: Any) -> Iterator[APIRoute]:
    """The routes with a JSON body that the framework validates."""
    for route in routes:
        if isinstance(route, APIRoute):
            if route.body_field and FORMS not in str(route.body_field.field_info.annotation):
                yield route
        else:
            router = getattr(route, "original_router", None)
            yield from json_routes(getattr(router or route, "routes", ()))


def addresses(app: Any) -> list[tuple[str, str]]:
    found = [
        (method, API + route.path_format)
        for route in json_routes(app.routes)
        for method in route.methods or ()
    ]
    assert len(found) > 15
    return found


@pytest.mark.parametrize(
    "kind", [None, "similarity", "remedy_bench", "train", "external"], ids=lambda kind: str(kind)
)
def test_no_endpoint_lists_what_is_wrong_with_each_of_many_fields(
    client: TestClient, kind: str | None
) -> None:
    body = {f"unknown_{number}": 1 for number in range(WRONG)} | ({"kind": kind} if kind else {})
    for method, path in addresses(client.app):
        at = path
        for name in ("dataset_id", "run_id", "study_id", "pair", "batch_id", "alarm_id"):
            at = at.replace(f"{{{name}}}", "1")
        answer = client.request(method, at, json=body)
        assert len(answer.content) < 2000, path
        assert answer.status_code in (404, 422), path


def test_their_number_is_told(client: TestClient) -> None:
    dataset = client.post(f"{API}/samples/sentences").json()["id"]
    began = time.monotonic()
    many = client.post(
        f"{API}/datasets/{dataset}/selection",
        json={f"field_{number}": 1 for number in range(WRONG)},
    )
    assert time.monotonic() - began < 2
    assert many.status_code == 422
    assert f"{WRONG:,} fields or items are invalid" in many.json()["detail"]
    few = client.post(
        f"{API}/datasets/{dataset}/selection",
        json={f"field_{number}": 1 for number in range(MOST_FIELD_ERRORS)},
    )
    assert len(few.json()["errors"]) == MOST_FIELD_ERRORS


def test_a_list_of_a_million_wrong_pairs_ends_at_the_first(client: TestClient) -> None:
    dataset = client.post(f"{API}/samples/sentences").json()["id"]
    began = time.monotonic()
    answer = client.post(
        f"{API}/datasets/{dataset}/selection",
        content=json.dumps({"pairs": [0, *["x"] * 1_000_000]}),
        headers={"content-type": "application/json"},
    )
    assert answer.json()["detail"].startswith("pairs.1: Input should be a valid integer")
    assert time.monotonic() - began < 5


def test_the_configuration_of_a_run_is_no_exception(client: TestClient) -> None:
    dataset = client.post(f"{API}/samples/sentences").json()["id"]
    config = {f"field_{number}": 1 for number in range(WRONG)}
    answer = client.post(
        f"{API}/runs", json={"kind": "score", "dataset_id": dataset, "config": config}
    )
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == "config"
    assert "too many to list them" in error["message"]
