"""A models folder whose disk does not answer holds up nobody but those who ask for it."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.errors import UnavailableError
from app.models import folder
from app.models.folder import within_time
from tests.app import factories

API = "/api/v1"
ASKING = 60
"""More than the web server has threads."""


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The disk answers once this is set."""
    back = threading.Event()

    def look(*_: Any) -> list[Any]:
        back.wait(30)
        return []

    monkeypatch.setattr("app.models.queries.list_folder", look)
    monkeypatch.setattr("app.models.queries.find_model", look)
    monkeypatch.setattr("app.runs.capacity.find_model", look)
    monkeypatch.setattr(folder, "_places", threading.BoundedSemaphore(folder.AT_ONCE))
    monkeypatch.setattr(folder, "SECONDS", 0.4)
    monkeypatch.setattr(folder, "WAIT_SECONDS", 0.1)
    yield back
    back.set()


def test_it_is_said_in_time_and_others_go_on(
    client: TestClient, session: Any, away: threading.Event
) -> None:
    dataset = factories.dataset(session)
    session.commit()
    run = {"kind": "score", "dataset_id": dataset.id, "config": {"model": "tiny"}}
    asked = (
        lambda: client.get(f"{API}/models"),
        lambda: client.post(f"{API}/runs", json=run),
        lambda: client.post(f"{API}/runs/capacity", json=run),
    )
    with ThreadPoolExecutor(ASKING) as threads:
        began = time.monotonic()
        answers = [threads.submit(asked[number % 3]) for number in range(ASKING)]
        assert client.get(f"{API}/runs").status_code == 200
        assert time.monotonic() - began < 5
        for answer in answers:
            assert answer.result().status_code == 503
            assert "does not answer" in answer.result().json()["detail"]
    away.set()
    assert client.get(f"{API}/models").status_code == 200


def test_no_more_than_so_many_threads_wait_for_it(away: threading.Event) -> None:
    def ask() -> None:
        with pytest.raises(UnavailableError):
            within_time(lambda: away.wait(30))

    with ThreadPoolExecutor(ASKING) as threads:
        for asked in [threads.submit(ask) for _ in range(ASKING)]:
            asked.result()
    waiting = [one for one in threading.enumerate() if one.name == "models folder"]
    assert len(waiting) == folder.AT_ONCE
    away.set()
    for one in waiting:
        one.join(5)


def test_what_goes_wrong_in_it_is_raised() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        within_time(fail)
