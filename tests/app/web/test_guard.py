"""Who may talk to the server."""

import re
import time
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from app.auth import permissions as access
from app.core.errors import ForbiddenError, UnauthorizedError
from app.core.resources import folder
from app.core.settings import Settings, get_settings
from app.local.embedded import Services
from app.main import create_app
from app.web import guard as security

TOKEN = "correct horse battery staple"
REVIEWERS = "a reviewer's long token"
VIEWERS = "a viewer's long token"
ADAS = "adas-own-long-token"
BROWSER = {"accept": "text/html"}
HOME = "http://127.0.0.1:8000"


@pytest.fixture
def http() -> TestClient:
    return TestClient(create_app(), base_url=HOME, follow_redirects=False)


@pytest.fixture
def locked(database: Services, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A server with a token for each role, and one with a name of its own."""
    people = get_settings().data_dir / "tokens"
    people.write_text(f"# who reviews\nreviewer ada {ADAS}\n")
    monkeypatch.setenv("CHESBOARD_TOKEN", TOKEN)
    monkeypatch.setenv("CHESBOARD_REVIEWER_TOKEN", REVIEWERS)
    monkeypatch.setenv("CHESBOARD_VIEWER_TOKEN", VIEWERS)
    monkeypatch.setenv("CHESBOARD_TOKENS_FILE", str(people))
    get_settings.cache_clear()
    return TestClient(create_app(), base_url=HOME, follow_redirects=False)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


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


def test_server_on_every_address_may_be_told_its_names() -> None:
    settings = Settings(host="0.0.0.0", allowed_hosts="gpu-box, chesboard.example")
    for host in ("GPU-box:8000", "chesboard.example", "localhost"):
        security.check_host(Headers({"host": host}), settings)
    with pytest.raises(ForbiddenError):
        security.check_host(Headers({"host": "evil.example"}), settings)


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


@pytest.mark.parametrize(
    "path",
    ["/api/v1/samples", "/docs", "/api/v1/openapi.json", "/metrics", "/status", "/nowhere"],
)
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
    assert "samesite=strict" in cookie.lower()
    assert "secure" not in cookie.lower()  # plain HTTP, as this client speaks
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


def session_of(secret: str, now: float) -> str:
    return access.new_session(access.Token("operator", access.Role.OPERATOR, secret), now)


def test_cookie_of_another_token_is_worth_nothing(locked: TestClient) -> None:
    locked.cookies.set(security.COOKIE, session_of("an older token", time.time()))
    assert locked.get("/api/v1/samples").status_code == 401


def test_a_session_ends_after_a_week(locked: TestClient) -> None:
    week = access.COOKIE_SECONDS
    locked.cookies.set(security.COOKIE, session_of(TOKEN, time.time() - week + 60))
    assert locked.get("/api/v1/samples").status_code == 200
    locked.cookies.clear()
    locked.cookies.set(security.COOKIE, session_of(TOKEN, time.time() - week - 60))
    assert locked.get("/api/v1/samples").status_code == 401


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_session_that_was_tampered_with_is_none(place: int, flip: int) -> None:
    keyring = access.Keyring([access.Token("operator", access.Role.OPERATOR, TOKEN)])
    good = session_of(TOKEN, 1e9)
    assert keyring.by_session(good, 1e9) is not None
    place %= len(good)
    bad = good[:place] + chr(ord(good[place]) ^ flip) + good[place + 1 :]
    assert keyring.by_session(bad, 1e9) is None


def test_cookie_is_for_https_only_where_the_page_came_so(locked: TestClient) -> None:
    safe = TestClient(locked.app, base_url="https://127.0.0.1", follow_redirects=False)
    done = safe.post("/login", data={"token": TOKEN})
    assert "; secure" in done.headers["set-cookie"].lower()


def test_logging_out_takes_the_cookie_away(locked: TestClient) -> None:
    locked.post("/login", data={"token": TOKEN})
    assert "Log out" in locked.get("/docs").text
    gone = locked.post("/logout")
    assert (gone.status_code, gone.headers["location"]) == (303, "/login")
    assert locked.get("/api/v1/samples").status_code == 401


# --- guessing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["form", "bearer"])
def test_guessing_is_stopped_after_ten_wrong_tokens(locked: TestClient, way: str) -> None:
    def guess(token: str) -> int:
        if way == "form":
            return locked.post("/login", data={"token": token}).status_code
        return locked.get("/api/v1/samples", headers=bearer(token)).status_code

    assert [guess(f"wrong {number}") for number in range(security.WRONG_TOKENS)] == [401] * 10
    assert guess("wrong again") == 429
    # Nor does the right one come through: its guesser would know.
    assert guess(TOKEN) == 429
    answer = locked.get("/api/v1/samples", headers=bearer(TOKEN))
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_who_is_logged_in_is_not_shut_out_by_another_ones_guesses(locked: TestClient) -> None:
    locked.post("/login", data={"token": TOKEN})
    for number in range(security.WRONG_TOKENS + 1):
        locked.post("/login", data={"token": f"wrong {number}"})
    assert locked.get("/api/v1/samples").status_code == 200


def test_requests_beyond_the_rate_are_refused(
    locked: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings(), "requests_per_second", 1.0)
    http = TestClient(create_app(), base_url=HOME)
    asked = [http.get("/api/v1/samples", headers=bearer(TOKEN)) for _ in range(30)]
    assert [answer.status_code for answer in asked[:5]] == [200] * 5
    assert asked[-1].status_code == 429
    assert asked[-1].headers["content-type"] == "application/problem+json"
    # Another person at the same address has a rate of their own.
    assert http.get("/api/v1/samples", headers=bearer(ADAS)).status_code == 200


def test_without_tokens_nobody_is_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings(), "requests_per_second", 0.1)
    http = TestClient(create_app(), base_url=HOME)
    assert {http.get("/api/v1/samples").status_code for _ in range(30)} == {200}


# --- roles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        (VIEWERS, "GET", "/api/v1/runs", 200),
        (VIEWERS, "DELETE", "/api/v1/datasets/1/flags", 403),
        (VIEWERS, "POST", "/api/v1/samples/sentences", 403),
        (VIEWERS, "GET", "/datasets/1/new", 403),
        (VIEWERS, "GET", "/audit", 403),
        (REVIEWERS, "DELETE", "/api/v1/datasets/1/flags", 404),  # let in; there is none
        (ADAS, "DELETE", "/api/v1/datasets/1/flags", 404),
        (ADAS, "DELETE", "/api/v1/runs/1", 403),
        (ADAS, "GET", "/api/v1/audit", 403),
        (TOKEN, "DELETE", "/api/v1/runs/1", 404),
        (TOKEN, "GET", "/audit", 200),
        # What is no route's is not found by those who are logged in, and changed by none.
        (VIEWERS, "GET", "/nowhere", 404),
        (VIEWERS, "POST", "/nowhere", 403),
    ],
)
def test_each_role_may_do_what_its_rule_says(
    locked: TestClient, token: str, method: str, path: str, status: int
) -> None:
    answer = locked.request(method, path, headers=bearer(token))
    assert answer.status_code == status
    if status == 403:
        assert "takes the role" in answer.json()["detail"]


def test_a_refused_upload_is_not_even_read(locked: TestClient) -> None:
    received, sent = [], []

    async def receive() -> dict[str, Any]:
        received.append(1)
        return {"type": "http.request", "body": b"--x\r\n", "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {
        "host": "127.0.0.1",
        "content-type": "multipart/form-data; boundary=x",
        **bearer(VIEWERS),
    }
    scope = {
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


@pytest.mark.parametrize(("token", "role"), [(VIEWERS, "viewer"), (TOKEN, "operator")])
def test_a_page_knows_the_role_of_who_looks(locked: TestClient, token: str, role: str) -> None:
    page = locked.get("/", headers=bearer(token))
    assert f'data-role="{role}"' in page.text
    assert ("Audit log" in page.text) == (role == "operator")


def test_health_is_told_to_strangers_in_a_word(locked: TestClient) -> None:
    assert locked.get("/healthz").json() == {"status": "ok"}
    details = locked.get("/healthz", headers=bearer(VIEWERS)).json()
    assert set(details) == {"status", "database", "broker", "workers"}


def test_unauthorized_error_asks_for_a_bearer() -> None:
    assert UnauthorizedError("no").headers == {"WWW-Authenticate": "Bearer"}


# --- what goes out and what comes in ----------------------------------------------------------


def test_every_answer_carries_the_security_headers(http: TestClient) -> None:
    for path in ("/api/v1/samples", "/docs", "/login", "/static/style.css", "/nowhere"):
        headers = http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "script-src" not in policy  # falls back to 'self'
        assert "unsafe-inline" not in policy
        assert "unsafe-eval" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_our_own_templates_have_no_inline_style_or_script() -> None:
    for template in folder("templates").glob("*.html"):
        text = template.read_text()
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text), template.name
        assert not re.search(r"<script(?![^>]*(\bsrc=|application/json))", text), template.name


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
