"""Bearer tokens, the login form, its session cookie, and the limit on guessing."""

import time

import pytest
from fastapi.testclient import TestClient
from itsdangerous import TimestampSigner

from app.auth.authentication import COOKIE, MAX_WRONG_TOKENS
from app.auth.permissions import Role
from app.auth.tokens import SESSION_SECONDS, Token, new_session
from app.main import create_app
from tests.support import HOME, OPERATOR_TOKEN, bearer

BROWSER = {"accept": "text/html"}


def session_of(secret: str, now: float) -> str:
    """A session cookie that was signed with a token at that time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TimestampSigner, "get_timestamp", lambda _: int(now))
        return new_session(Token("operator", Role.OPERATOR, secret))


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {OPERATOR_TOKEN}", 200),
        (f"bearer {OPERATOR_TOKEN}", 200),
        (f"Bearer {OPERATOR_TOKEN}x", 401),
        ("Bearer ", 401),
        (f"Basic {OPERATOR_TOKEN}", 401),
        ("Bearer caf\xe9", 401),
    ],
)
def test_token_as_bearer(locked: TestClient, header: str, status: int) -> None:
    answer = locked.get("/api/v1/samples", headers={b"authorization": header.encode("latin-1")})
    assert answer.status_code == status


def test_browser_is_sent_to_the_login_and_back(locked: TestClient) -> None:
    sent = locked.get("/docs?q=1", headers=BROWSER)
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Fdocs%3Fq%3D1")
    form = locked.get(sent.headers["location"])
    assert 'value="/docs?q=1"' in form.text
    done = locked.post("/login", data={"token": OPERATOR_TOKEN, "next": "/docs?q=1"})
    assert (done.status_code, done.headers["location"]) == (303, "/docs?q=1")
    cookie = done.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "secure" not in cookie.lower()  # plain HTTP, as this client speaks
    assert OPERATOR_TOKEN not in cookie
    assert locked.get("/api/v1/samples").status_code == 200


def test_wrong_token_is_told(locked: TestClient) -> None:
    answer = locked.post("/login", data={"token": "guess"})
    assert answer.status_code == 401
    assert "not the access token" in answer.text
    assert "set-cookie" not in answer.headers


def test_login_from_another_page_is_refused(locked: TestClient) -> None:
    answer = locked.post(
        "/login", data={"token": OPERATOR_TOKEN}, headers={"origin": "http://evil.example"}
    )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "\\/evil", "/a\nb", ""]
)
def test_login_never_leads_away(locked: TestClient, target: str) -> None:
    done = locked.post("/login", data={"token": OPERATOR_TOKEN, "next": target})
    assert done.headers["location"] == "/"


def test_cookie_of_another_token_is_worth_nothing(locked: TestClient) -> None:
    locked.cookies.set(COOKIE, session_of("an older token", time.time()))
    assert locked.get("/api/v1/samples").status_code == 401


def test_a_session_ends_after_a_week(locked: TestClient) -> None:
    week = SESSION_SECONDS
    locked.cookies.set(COOKIE, session_of(OPERATOR_TOKEN, time.time() - week + 60))
    assert locked.get("/api/v1/samples").status_code == 200
    locked.cookies.clear()
    locked.cookies.set(COOKIE, session_of(OPERATOR_TOKEN, time.time() - week - 60))
    assert locked.get("/api/v1/samples").status_code == 401


def test_cookie_is_for_https_only_where_the_page_came_so(locked: TestClient) -> None:
    safe = TestClient(locked.app, base_url="https://127.0.0.1", follow_redirects=False)
    done = safe.post("/login", data={"token": OPERATOR_TOKEN})
    assert "; secure" in done.headers["set-cookie"].lower()


def test_logging_out_takes_the_cookie_away(locked: TestClient) -> None:
    locked.post("/login", data={"token": OPERATOR_TOKEN})
    assert "Log out" in locked.get("/docs").text
    gone = locked.post("/logout")
    assert (gone.status_code, gone.headers["location"]) == (303, "/login")
    assert locked.get("/api/v1/samples").status_code == 401


@pytest.mark.parametrize("way", ["form", "bearer"])
def test_guessing_is_slowed_after_ten_wrong_tokens(
    locked: TestClient, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.auth.authentication.LATE_SECONDS", 0.3)

    def guess(token: str) -> int:
        if way == "form":
            return locked.post("/login", data={"token": token}).status_code
        return locked.get("/api/v1/samples", headers=bearer(token)).status_code

    assert [guess(f"wrong {number}") for number in range(MAX_WRONG_TOKENS)] == [401] * 10
    began = time.monotonic()
    assert guess("wrong again") == 429
    # Before it was checked: to leave earlier gains the guesser nothing.
    assert time.monotonic() - began > 0.2
    refused = locked.get("/api/v1/samples", headers=bearer("wrong again"))
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    # Whoever shares the address gets in: late the first time, then at once.
    assert guess(OPERATOR_TOKEN) in (200, 303)
    monkeypatch.setattr("app.auth.authentication.LATE_SECONDS", 60)
    assert guess(OPERATOR_TOKEN) in (200, 303)


def test_who_is_logged_in_is_not_shut_out_by_another_ones_guesses(locked: TestClient) -> None:
    locked.post("/login", data={"token": OPERATOR_TOKEN})
    for number in range(MAX_WRONG_TOKENS):
        locked.post("/login", data={"token": f"wrong {number}"})
    assert locked.get("/api/v1/samples").status_code == 200


def test_a_copied_cookie_is_worth_nothing_after_the_logout(locked: TestClient) -> None:
    locked.post("/login", data={"token": OPERATOR_TOKEN})
    copied = locked.cookies[COOKIE]
    locked.post("/logout")
    # Of another process on the same database, too, and after a restart.
    other = TestClient(create_app(), base_url=HOME, follow_redirects=False)
    for server in (locked, other):
        server.cookies.clear()
        server.cookies.set(COOKIE, copied)
        assert server.get("/api/v1/samples").status_code == 401
        server.cookies.clear()
        server.post("/login", data={"token": OPERATOR_TOKEN})
        assert server.get("/api/v1/samples").status_code == 200


def test_what_needs_a_token_is_kept_by_no_cache(locked: TestClient) -> None:
    answer = locked.get("/api/v1/samples", headers=bearer(OPERATOR_TOKEN))
    assert answer.headers["cache-control"] == "no-store"
    assert "no-store" not in locked.get("/static/style.css").headers.get("cache-control", "")
