"""Clients that send half a request, or read nothing of their answer, hold nobody else up."""

import os
import resource
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.core.database import transaction
from app.core.settings import Settings, get_settings
from app.local.embedded import Services, free_port
from app.local.stack import web_command
from app.store.audit import AuditEvent
from app.web.connections import Connections
from tests import PROJECT_ROOT
from tests.app.serving import connected, get, is_closed, serving
from tests.support import OPERATOR_TOKEN, bearer, eventually

HALF = b"GET / HTTP/1.1\r\nHost: 127"


@pytest.fixture
def hurry(database: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Limits that a test can wait for."""
    monkeypatch.setenv("CHESBOARD_REQUEST_TIMEOUT", "PT1S")
    monkeypatch.setenv("CHESBOARD_CLIENT_TIMEOUT", "PT1S")
    monkeypatch.setenv("CHESBOARD_MAX_CONNECTIONS_PER_ADDRESS", "20")
    get_settings.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()


def test_half_requests_keep_no_whole_one_out(hurry: pytest.MonkeyPatch) -> None:
    hurry.setenv("CHESBOARD_REQUEST_TIMEOUT", "PT1M")
    get_settings.cache_clear()
    with serving() as server, connected(server.port, 60, HALF) as held:
        for _ in range(3):
            assert httpx.get(f"{server.url}/samples", timeout=5).status_code == 200
        eventually(lambda: sum(map(is_closed, held)) >= 40)


def test_the_head_of_a_request_has_its_time(hurry: pytest.MonkeyPatch) -> None:
    with serving() as server, connected(server.port, 3, HALF) as held:
        assert not any(map(is_closed, held))
        eventually(lambda: all(map(is_closed, held)), seconds=5)


def test_a_body_that_stops_coming_ends_its_request(hurry: pytest.MonkeyPatch) -> None:
    head = (
        b"POST /api/v1/datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    with serving() as server, connected(server.port, 2, head) as held:
        eventually(lambda: all(map(is_closed, held)), seconds=5)


def test_connections_of_a_trusted_proxy_are_not_counted_by_address() -> None:
    found = Connections(Settings(trusted_proxies="10.0.0.1, 192.168.0.0/24"))
    assert [found.key(one) for one in ("10.0.0.1", "192.168.0.7")] == [None, None]
    assert found.key("10.0.0.2") == "10.0.0.2"
    assert found.key("2001:db8::1") == found.key("2001:db8::2")


def test_strangers_of_a_whole_server(database: Services, tmp_path: Path) -> None:
    """`chesboard web` itself, with 1,024 files as a shell gives them: 1,200 half requests, and a
    client that claims another address."""
    settings = Settings(port=free_port())
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            web_command(settings),
            cwd=PROJECT_ROOT,
            env={**os.environ, "CHESBOARD_TOKEN": OPERATOR_TOKEN},
            stdout=output,
            stderr=output,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)),
        )
    address = f"http://127.0.0.1:{settings.port}"
    try:
        eventually(lambda: _answers(address), seconds=60)
        with connected(settings.port, 1200, HALF):
            for _ in range(3):
                answer = httpx.get(
                    f"{address}/api/v1/samples", headers=bearer(OPERATOR_TOKEN), timeout=5
                )
                assert answer.status_code == 200
        forged = {"X-Forwarded-For": "203.0.113.9"}
        httpx.post(f"{address}/login", data={"token": "guess"}, headers=forged)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert log.stat().st_size < 20_000
    with transaction() as session:
        refused = session.query(AuditEvent).filter_by(action="login.refused").one()
        assert refused.address == "127.0.0.1"


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_reader_that_stops_is_dropped_and_its_answer_with_it(hurry: pytest.MonkeyPatch) -> None:
    """Also of an answer that was made whole: it waits in the server."""
    # Pipelined until the answers no longer fit into what the kernel holds.
    asked = get("/api/v1/openapi.json") * 30
    with serving() as server, connected(server.port, 2, asked) as held:
        eventually(lambda: all(map(is_dropped, held)), seconds=8)


def is_dropped(one: socket.socket) -> bool:
    """Whether the server has reset the connection, without reading what it sent."""
    poll = select.poll()
    poll.register(one, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
    return bool(poll.poll(0))
