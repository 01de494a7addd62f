"""Downloads go at each client's own pace, and hold no transaction meanwhile."""

import csv
import io
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.audit import recording
from app.core.database import transaction
from app.core.settings import get_settings
from app.local.embedded import Services
from app.store.audit import AuditEvent
from app.web import spool
from tests.app import factories
from tests.app.serving import connected, get, serving
from tests.support import database_is_away, eventually

API = "/api/v1"
LONG = "long " * 2000


@pytest.fixture
def dataset_id(database: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a dataset whose export is larger than what the kernel holds for a client."""
    monkeypatch.setenv("CHESBOARD_MAX_DOWNLOADS", "8")
    monkeypatch.setenv("CHESBOARD_CLIENT_TIMEOUT", "PT2S")
    get_settings.cache_clear()
    with transaction() as session:
        yield_id = factories.dataset(session, [(f"{n}", LONG, f"{n}") for n in range(1000)]).id
    yield yield_id
    get_settings.cache_clear()


def open_transactions() -> int:
    """Of other connections of this program, at this moment."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' "
        "AND pid <> pg_backend_pid() AND datname = current_database()"
    )
    with transaction() as session:
        return session.scalar(query) or 0


def test_slow_readers_hold_no_transaction_and_end(dataset_id: int) -> None:
    asked = get(f"{API}/datasets/{dataset_id}/export", "Accept-Encoding: identity")
    with serving() as server:
        address = f"{server.url}/datasets/{dataset_id}/export"
        with connected(server.port, 4, asked):
            eventually(lambda: server.app.state.downloads._held.total() == 4)
            # One person has half of the downloads that there may be.
            refused = httpx.get(address)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert "4 downloads of yours are under way" in refused.json()["detail"]
            eventually(lambda: open_transactions() == 0, seconds=10)
            assert httpx.get(f"{server.url}/datasets", timeout=5).status_code == 200
            # They take nothing, and are ended.
            eventually(lambda: server.app.state.downloads._held.total() == 0, seconds=10)
        assert len(httpx.get(address).text.splitlines()) == 1000


def test_a_client_that_leaves_ends_its_download(dataset_id: int) -> None:
    with serving() as server:
        address = f"{server.url}/datasets/{dataset_id}/export"
        with httpx.stream("GET", address, headers={"accept-encoding": "identity"}):
            assert server.app.state.downloads._held.total() == 1
        eventually(lambda: server.app.state.downloads._held.total() == 0, seconds=5)
        eventually(lambda: open_transactions() == 0, seconds=5)


def test_a_download_reads_one_state_of_the_database(dataset_id: int) -> None:
    """Of the moment when it began, whatever is changed while it is sent."""
    with serving() as server:
        address = f"{server.url}/datasets/{dataset_id}/export?form=original&format=csv"
        with httpx.stream("GET", address, headers={"accept-encoding": "identity"}) as answer:
            with transaction() as session:
                session.execute(text("UPDATE pairs SET dispreferred = 'changed'"))
            body = "".join(answer.iter_text())
    rows = list(csv.DictReader(io.StringIO(body)))
    assert len(rows) == 1000
    assert not any("changed" in row.values() for row in rows)


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_download_of_nothing_comes_at_once(client: TestClient, format: str) -> None:
    with transaction() as session:
        run_id = factories.run(session, factories.dataset(session).id).id
    began = time.monotonic()
    answer = client.get(f"{API}/runs/{run_id}/findings?format={format}")
    assert time.monotonic() - began < 4
    assert len(answer.text.splitlines()) == (1 if format == "csv" else 0)


def test_an_error_before_the_first_byte_is_an_answer(
    database: Services, client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    with transaction() as session:
        dataset_id = factories.dataset(session).id
    monkeypatch.setattr("tempfile.tempdir", f"{tmp_path}/none")
    answer = client.get(f"{API}/datasets/{dataset_id}/export")
    assert answer.status_code == 503
    assert f"{tmp_path}/none" in answer.json()["detail"]


def test_what_is_broken_off_ends_incomplete(
    dataset_id: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def rows(*_: object) -> Iterator[dict[str, str]]:
        yield from ({"prompt": LONG} for _ in range(100))
        raise database_is_away()

    monkeypatch.setattr("app.datasets.exporting._rows", rows)
    with serving() as server, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}/datasets/{dataset_id}/export")
    said = [line.getMessage() for line in caplog.records if line.name == "app.web.downloads"]
    assert len(said) == 1
    assert "broken off" in said[0]


@pytest.mark.parametrize("query", ["format=csv", "%66ormat=csv", "since=-1&form%61t=csv"])
def test_a_download_is_in_the_audit_log_however_it_is_asked_for(
    client: TestClient, query: str
) -> None:
    with transaction() as session:
        run_id = factories.run(session, factories.dataset(session).id).id
    for _ in range(2):
        assert client.get(f"{API}/runs/{run_id}/metrics?{query}").status_code == 200
    with transaction() as session:
        assert session.query(AuditEvent).filter_by(action="run.export").count() == 2


def test_a_download_that_cannot_be_recorded_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        dataset_id = factories.dataset(session).id

    def fail(_: object) -> None:
        raise database_is_away()

    monkeypatch.setattr(recording, "record_first", fail)
    answer = client.get(f"{API}/datasets/{dataset_id}/export")
    assert answer.status_code == 503
    assert "audit log" in answer.json()["detail"]


def test_downloads_are_recorded_and_health_is_told_while_every_connection_is_in_use(
    client: TestClient, database: Services
) -> None:
    with transaction() as session:
        dataset_id = factories.dataset(session).id
    free, held = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        with transaction() as session:
            session.execute(text("SELECT 1"))
            held.release()
            free.wait(30)

    threads = [threading.Thread(target=hold) for _ in range(29)]
    with ExitStack() as stack:
        stack.callback(free.set)
        for thread in threads:
            thread.start()
        for _ in threads:
            held.acquire(timeout=10)
        with transaction() as session:
            session.execute(text("SELECT 1"))
            began = time.monotonic()
            assert client.get("/healthz").json()["database"] == "ok"
            assert time.monotonic() - began < 5
    for thread in threads:
        thread.join()
    assert client.get(f"{API}/datasets/{dataset_id}/export").status_code == 200


@pytest.mark.parametrize(
    ("kept", "rests"), [(0.0001, 1), (0.0099, 3)], ids=["nobody else computes", "others never stop"]
)
def test_who_makes_a_download_lets_others_compute_first_and_goes_on_in_the_end(
    monkeypatch: pytest.MonkeyPatch, kept: float, rests: int
) -> None:
    """After a thousandth of a second's work. kept: the seconds that a rest takes longer, since
    others have the processor."""
    taken: list[float] = []
    clock = SimpleNamespace(
        sleep=lambda seconds: taken.append(seconds + kept), perf_counter=lambda: sum(taken)
    )
    monkeypatch.setattr(spool, "time", clock)
    spool._give_way(0.001)
    assert len(taken) == rests
