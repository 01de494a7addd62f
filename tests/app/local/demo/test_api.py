"""The demo's runs are made once, waited for, and reused by name."""

from typing import TYPE_CHECKING, cast

import httpx
import pytest

from app.local.demo.api import DemoError, finished_run, get, upload
from tests.app.local.demo.fake_api import FakeApi

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

ROW = b'{"prompt": "Is it so?", "chosen": "No", "rejected": "Never"}\n'


def test_a_run_of_the_same_name_and_dataset_is_reused() -> None:
    api = FakeApi()
    first = finished_run(api.client, "one", "score", 1, {})
    assert finished_run(api.client, "one", "score", 1, {}) == first
    assert finished_run(api.client, "one", "score", 2, {})["id"] != first["id"]
    assert finished_run(api.client, "other", "score", 1, {})["id"] != first["id"]


def test_a_failed_run_is_named_with_its_reason_and_not_reused() -> None:
    api = FakeApi(status="failed")
    with pytest.raises(DemoError, match=r"“one” \(run 1\) did not succeed: no memory"):
        finished_run(api.client, "one", "score", 1, {})
    api.status = "succeeded"
    assert finished_run(api.client, "one", "score", 1, {})["id"] == 2


def test_an_error_of_the_server_is_told_with_its_address() -> None:
    with pytest.raises(DemoError, match="/nowhere answered 404"):
        get(FakeApi().client, "/nowhere")


@pytest.fixture
def api(client: "TestClient") -> httpx.Client:
    """The real API, as the demo's client: both have httpx's interface."""
    same = cast("httpx.Client", client)
    same.base_url = "http://127.0.0.1:8000/api/v1/"
    return same


def test_the_same_file_is_stored_once(api: httpx.Client) -> None:
    first = upload(api, "mine", "pairs.jsonl", ROW)
    assert upload(api, "mine", "pairs.jsonl", ROW) == first
    assert upload(api, "mine", "pairs.jsonl", ROW + ROW) != first
    assert get(api, f"/datasets/{first}")["name"] == "mine"


def test_a_file_that_cannot_be_read_is_an_error(api: httpx.Client) -> None:
    with pytest.raises(DemoError, match="answered 4"):
        upload(api, "mine", "pairs.jsonl", b"")
