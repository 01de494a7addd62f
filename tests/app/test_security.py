"""Who may talk to the server."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers

from app import security
from app.errors import ForbiddenError, UnauthorizedError
from app.main import create_app
from app.settings import Settings, get_settings

TOKEN = "correct horse battery staple"
BROWSER = {"accept": "text/html"}
HOME = "http://127.0.0.1:8000"


@pytest.fixture
def http() -> TestClient:
    return TestClient(create_app(), base_url=HOME, follow_redirects=False)


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A server with a token."""
    monkeypatch.setenv("CHESBOARD_TOKEN", TOKEN)
    get_settings.cache_clear()
    yield TestClient(create_app(), base_url=HOME, follow_redirects=False)
    monkeypatch.undo()
    get_settings.cache_clear()


# --- Host -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
def test_loopback_is_answered_on_any_port(host: str) -> None:
    security.check_host(Headers({"host": host}), Settings())


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "127.0.0.1.evil"]
)
def test_another_name_is_refused(host: str) -> None:
    with pytest.raises(ForbiddenError):
        security.check_host(Headers({"host": host}), Settings())


def test_the_configured_host_is_answered() -> None:
    security.check_host(Headers({"host": "gpu-box:8000"}), Settings(host="GPU-box"))


def test_server_on_every_address_answers_to_any_name() -> None:
    security.check_host(Headers({"host": "gpu-box:8000"}), Settings(host="0.0.0.0"))


def test_foreign_host_gets_a_problem(http: TestClient) -> None:
    answer = http.get("/api/v1/samples", headers={"host": "evil.example"})
    assert answer.status_code == 403
    assert "evil.example" in answer.json()["detail"]


# --- Origin -----------------------------------------------------------------------------------


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
    security.check_origin("POST", Headers({"origin": origin, "host": host}))


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


def test_program_without_origin_passes() -> None:
    security.check_origin("POST", Headers({"host": "127.0.0.1"}))


# --- token ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/samples", "/healthz", "/docs", "/api/v1/openapi.json"])
def test_without_the_token_nothing_is_answered(locked: TestClient, path: str) -> None:
    answer = locked.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer ", 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer caf\xe9", 401),
    ],
)
def test_token_as_bearer(locked: TestClient, header: str, status: int) -> None:
    answer = locked.get("/api/v1/samples", headers={"authorization": header.encode("latin-1")})
    assert answer.status_code == status


def test_browser_is_sent_to_the_login_and_back(locked: TestClient) -> None:
    sent = locked.get("/docs?q=1", headers=BROWSER)
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Fdocs%3Fq%3D1")
    form = locked.get(sent.headers["location"])
    assert 'value="/docs?q=1"' in form.text
    done = locked.post("/login", data={"token": TOKEN, "next": "/docs?q=1"})
    assert (done.status_code, done.headers["location"]) == (303, "/docs?q=1")
    cookie = done.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert TOKEN not in cookie
    assert locked.get("/api/v1/samples").status_code == 200


def test_wrong_token_is_told(locked: TestClient) -> None:
    answer = locked.post("/login", data={"token": "guess"})
    assert answer.status_code == 401
    assert "not the access token" in answer.text
    assert "set-cookie" not in answer.headers


def test_login_from_another_page_is_refused(locked: TestClient) -> None:
    answer = locked.post("/login", data={"token": TOKEN}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "\\/evil", "/a\nb", ""]
)
def test_login_never_leads_away(locked: TestClient, target: str) -> None:
    done = locked.post("/login", data={"token": TOKEN, "next": target})
    assert done.headers["location"] == "/"


def test_cookie_of_another_token_is_worth_nothing(locked: TestClient) -> None:
    locked.cookies.set(security.COOKIE, security._cookie_value("an older token"))
    assert locked.get("/api/v1/samples").status_code == 401


def test_unauthorized_error_asks_for_a_bearer() -> None:
    assert UnauthorizedError("no").headers == {"WWW-Authenticate": "Bearer"}


# --- what goes out and what comes in ----------------------------------------------------------


def test_every_answer_carries_the_security_headers(http: TestClient) -> None:
    for path in ("/api/v1/samples", "/docs", "/login", "/static/style.css", "/nowhere"):
        headers = http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "script-src" not in policy  # falls back to 'self'
        assert headers["x-content-type-options"] == "nosniff"


def test_body_is_not_read_beyond_its_limit(http: TestClient) -> None:
    body = b"token=" + b"a" * security.MAX_JSON_BYTES
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
