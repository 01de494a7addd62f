"""Which requests are let in: Host, Origin, roles and rates."""

import anyio
import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers
from starlette.types import Message, Scope

from app.core.errors import ForbiddenError, UnauthorizedError
from app.core.settings import Settings, get_settings
from app.main import create_app
from app.web.guard import check_host, check_origin
from tests.support import ADAS_TOKEN, HOME, OPERATOR_TOKEN, REVIEWER_TOKEN, VIEWER_TOKEN, bearer


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
def test_loopback_is_answered_on_any_port(host: str) -> None:
    check_host(Headers({"host": host}), Settings())


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "127.0.0.1.evil"]
)
def test_another_name_is_refused(host: str) -> None:
    with pytest.raises(ForbiddenError):
        check_host(Headers({"host": host}), Settings())


def test_the_configured_host_is_answered() -> None:
    check_host(Headers({"host": "gpu-box:8000"}), Settings(host="GPU-box"))


def test_server_on_every_address_answers_to_any_name() -> None:
    check_host(Headers({"host": "gpu-box:8000"}), Settings(host="0.0.0.0"))


def test_server_on_every_address_may_be_told_its_names() -> None:
    settings = Settings(host="0.0.0.0", allowed_hosts="gpu-box, chesboard.example")
    for host in ("GPU-box:8000", "chesboard.example", "localhost"):
        check_host(Headers({"host": host}), settings)
    with pytest.raises(ForbiddenError):
        check_host(Headers({"host": "evil.example"}), settings)


def test_foreign_host_gets_a_problem(http: TestClient) -> None:
    answer = http.get("/api/v1/samples", headers={"host": "evil.example"})
    assert answer.status_code == 403
    assert "evil.example" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://localhost", "localhost:80"),
        ("https://chesboard.example", "chesboard.example"),  # behind a proxy that ends TLS
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_change_from_our_own_page_passes(origin: str, host: str) -> None:
    check_origin("POST", Headers({"origin": origin, "host": host}))


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://127.0.0.1:9000",
        "http://localhost:8000",
        "null",
        "",
        "http://[",
    ],
)
def test_change_from_another_page_is_refused(http: TestClient, origin: str) -> None:
    answer = http.post("/api/v1/samples/sentences", headers={"origin": origin})
    assert answer.status_code == 403


def test_reading_from_another_page_is_the_browsers_to_refuse(http: TestClient) -> None:
    answer = http.get("/api/v1/samples", headers={"origin": "http://evil.example"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
def test_change_that_a_browser_says_is_anothers_is_refused(http: TestClient, site: str) -> None:
    """Without an Origin, as some extensions and proxies leave it."""
    answer = http.post("/api/v1/samples/sentences", headers={"sec-fetch-site": site})
    assert answer.status_code == 403


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_change_of_our_own_page_or_of_the_person_passes(site: str) -> None:
    check_origin("POST", Headers({"sec-fetch-site": site, "host": "127.0.0.1"}))


def test_program_without_origin_passes() -> None:
    check_origin("POST", Headers({"host": "127.0.0.1"}))


@pytest.mark.parametrize(
    "path",
    ["/api/v1/samples", "/docs", "/api/v1/openapi.json", "/metrics", "/status", "/nowhere"],
)
def test_without_the_token_nothing_is_answered(locked: TestClient, path: str) -> None:
    answer = locked.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert OPERATOR_TOKEN not in answer.text


def test_requests_beyond_the_rate_are_refused(
    locked: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings(), "requests_per_second", 1.0)
    http = TestClient(create_app(), base_url=HOME)
    asked = [http.get("/api/v1/samples", headers=bearer(OPERATOR_TOKEN)) for _ in range(30)]
    assert [answer.status_code for answer in asked[:5]] == [200] * 5
    assert asked[-1].status_code == 429
    assert asked[-1].headers["content-type"] == "application/problem+json"
    # Another person at the same address has a rate of their own.
    assert http.get("/api/v1/samples", headers=bearer(ADAS_TOKEN)).status_code == 200


def test_without_tokens_nobody_is_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings(), "requests_per_second", 0.1)
    http = TestClient(create_app(), base_url=HOME)
    assert {http.get("/api/v1/samples").status_code for _ in range(30)} == {200}


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        (VIEWER_TOKEN, "GET", "/api/v1/runs", 200),
        (VIEWER_TOKEN, "DELETE", "/api/v1/datasets/1/flags", 403),
        (VIEWER_TOKEN, "POST", "/api/v1/samples/sentences", 403),
        (VIEWER_TOKEN, "GET", "/datasets/1/new", 403),
        (VIEWER_TOKEN, "GET", "/audit", 403),
        (REVIEWER_TOKEN, "DELETE", "/api/v1/datasets/1/flags", 404),  # let in; there is none
        (ADAS_TOKEN, "DELETE", "/api/v1/datasets/1/flags", 404),
        (ADAS_TOKEN, "DELETE", "/api/v1/runs/1", 403),
        (ADAS_TOKEN, "GET", "/api/v1/audit", 403),
        (OPERATOR_TOKEN, "DELETE", "/api/v1/runs/1", 404),
        (OPERATOR_TOKEN, "GET", "/audit", 200),
        # What is no route's is not found by those who are logged in, and changed by none.
        (VIEWER_TOKEN, "GET", "/nowhere", 404),
        (VIEWER_TOKEN, "POST", "/nowhere", 403),
    ],
)
def test_each_role_may_do_what_its_rule_says(
    locked: TestClient, token: str, method: str, path: str, status: int
) -> None:
    answer = locked.request(method, path, headers=bearer(token))
    assert answer.status_code == status
    if status == 403:
        assert "requires the role" in answer.json()["detail"]


def test_a_refused_upload_is_not_even_read(locked: TestClient) -> None:
    received: list[int] = []
    sent: list[Message] = []

    async def receive() -> Message:
        received.append(1)
        return {"type": "http.request", "body": b"--x\r\n", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = {
        "host": "127.0.0.1",
        "content-type": "multipart/form-data; boundary=x",
        **bearer(VIEWER_TOKEN),
    }
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/datasets",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "server": ("127.0.0.1", 80),
    }
    anyio.run(locked.app, scope, receive, send)
    assert sent[0]["status"] == 403
    assert received == []


@pytest.mark.parametrize(
    ("token", "role"), [(VIEWER_TOKEN, "viewer"), (OPERATOR_TOKEN, "operator")]
)
def test_a_page_knows_the_role_of_who_looks(locked: TestClient, token: str, role: str) -> None:
    page = locked.get("/", headers=bearer(token))
    assert f'data-role="{role}"' in page.text
    assert ("Audit log" in page.text) == (role == "operator")


def test_health_is_told_to_strangers_in_a_word(locked: TestClient) -> None:
    assert locked.get("/healthz").json() == {"status": "ok"}
    details = locked.get("/healthz", headers=bearer(VIEWER_TOKEN)).json()
    assert set(details) == {"status", "database", "broker", "workers"}


def test_unauthorized_error_asks_for_a_bearer() -> None:
    assert UnauthorizedError("no").headers == {"WWW-Authenticate": "Bearer"}
