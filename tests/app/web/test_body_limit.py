"""A request body beyond its limit is refused before it is read whole."""

import pytest
from fastapi.testclient import TestClient

from app.core.settings import get_settings
from app.main import create_app
from app.web.body_limit import MAX_JSON_BYTES
from tests.support import HOME


def test_body_is_not_read_beyond_its_limit(http: TestClient) -> None:
    body = b"token=" + b"a" * MAX_JSON_BYTES
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert http.post("/login", content=body, headers=form).status_code == 413


def test_upload_is_not_read_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHESBOARD_MAX_UPLOAD_BYTES", "1000")
    get_settings.cache_clear()
    http = TestClient(create_app(), base_url=HOME)
    answer = http.post("/api/v1/datasets", files={"file": ("a.jsonl", b" " * (3 << 20))})
    monkeypatch.undo()
    get_settings.cache_clear()
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
