"""A request body beyond its limit is refused before it is read whole."""

import time
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from app.core.settings import get_settings
from app.main import create_app
from app.web.body_limit import MAX_JSON_BYTES
from tests.app.serving import connected, serving
from tests.support import HOME, OPERATOR_TOKEN, eventually


def test_body_is_not_read_beyond_its_limit(http: TestClient) -> None:
    body = b"token=" + b"a" * MAX_JSON_BYTES
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert http.post("/login", content=body, headers=form).status_code == 413


@pytest.mark.parametrize("size", [1 << 15, 5 << 20])
def test_what_a_stranger_sends_is_read_by_kilobytes_and_never_spooled(
    locked: TestClient, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A multipart body is a form too, which would be written to disk."""
    made = []
    monkeypatch.setattr("tempfile.TemporaryFile", lambda *_, **__: made.append(1))
    files = {"file": ("a", b"a" * size)}
    assert locked.post("/login", data={"token": "x"}, files=files).status_code == 413
    assert not made
    form = {"content-type": "application/x-www-form-urlencoded"}
    began = time.monotonic()
    assert locked.post("/login", content=b"&" * size, headers=form).status_code == 413
    assert time.monotonic() - began < 1


def test_only_uploads_are_as_large_as_uploads(http: TestClient) -> None:
    files = {"file": ("a", b"a" * (1 << 15))}
    assert http.post("/login", files=files).status_code == 413


def test_the_body_of_a_stranger_has_its_time(
    database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHESBOARD_TOKEN", OPERATOR_TOKEN)
    monkeypatch.setenv("CHESBOARD_REQUEST_TIMEOUT", "PT1S")
    get_settings.cache_clear()
    begun = (
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken="
    )
    with serving() as server, connected(server.port, 1, begun) as (one,):
        assert one.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_folder_for_temporary_files_that_is_full_or_gone_is_said(
    http: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In place of the framework's "There was an error parsing the body"."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    answer = http.post("/api/v1/datasets/preview", files={"file": ("a.csv", b"a" * (2 << 20))})
    assert answer.status_code == 503
    assert str(tmp_path / "none") in answer.json()["detail"]


def test_uploads_have_a_number(database: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHESBOARD_MAX_UPLOADS", "4")
    get_settings.cache_clear()
    head = (
        b"POST /api/v1/datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    with serving() as server, connected(server.port, 2, head):
        file = {"file": ("a.jsonl", b'{"prompt": "a", "chosen": "b", "rejected": "c"}')}
        address = f"{server.url}/datasets"

        def is_refused() -> bool:
            answer = httpx.post(address, files=file)
            assert answer.status_code in (201, 429)
            return answer.status_code == 429

        eventually(is_refused, seconds=5)
        assert httpx.get(address).status_code == 200


def test_upload_is_not_read_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHESBOARD_MAX_UPLOAD_BYTES", "1000")
    get_settings.cache_clear()
    http = TestClient(create_app(), base_url=HOME)
    answer = http.post("/api/v1/datasets", files={"file": ("a.jsonl", b" " * (3 << 20))})
    monkeypatch.undo()
    get_settings.cache_clear()
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
