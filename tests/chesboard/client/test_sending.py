"""Sending: what the server does or does not do costs the training nothing and loses nothing."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chesboard.client import delivery, pace, sender
from chesboard.client.environment import Destination
from chesboard.client.recording import Recording, new_key
from chesboard.client.spool import runs
from chesboard.client.sync import sync
from chesboard.client.wire import RefusedError, Wire
from chesboard.records import MetricRecord
from tests.chesboard.client.wire_server import WireServer, wire_server


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "SECONDS_BETWEEN_BATCHES", 0.05)
    monkeypatch.setattr(pace, "LEAST_SECONDS", 0.1)


def until(is_so: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is so, or fail."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def metric(step: int) -> MetricRecord:
    return MetricRecord(step, 1.0 / step, *[None] * 11)


def recording(folder: Path, url: str | None, token: str | None = None, key: str = "") -> Recording:
    body = {"kind": "external", "key": key or new_key(), "config": {"trainer": "a test"}}
    return Recording(Destination(url, token, folder), body, None)


def finish(record: Recording, seconds: float = 10.0) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    record.finish({"status": "succeeded"}, seconds)
    return time.monotonic() - began


def send_all(folder: Path, server: WireServer) -> None:
    wire = Wire(server.url, None)
    found = sync(folder, wire, watch=False, say=print)
    assert [one.problem for one in found] == [None] * len(found)


def test_everything_arrives_once_and_in_order(tmp_path, server) -> None:
    record = recording(tmp_path, server.url)
    for step in range(1, 30):
        record.put([metric(step)])
    assert finish(record) < 5
    assert server.only.steps == list(range(1, 30))
    assert server.only.status == "succeeded"
    assert record.page == f"{server.url}/runs/1"
    calls = [path.rpartition("/")[2] for path, _ in server.requests]
    assert calls[0] == "runs"
    assert calls[-1] == "finish"
    assert len(calls) < 15, "a step is no request"


def test_the_token_is_sent(tmp_path, server) -> None:
    server.token = "secret"
    record = recording(tmp_path, server.url, "secret")
    finish(record)
    assert server.only.status == "succeeded"


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422])
def test_a_refusal_stops_the_sending_is_said_once_and_loses_nothing(
    tmp_path, server, caplog, status
) -> None:
    server.status = status
    record = recording(tmp_path, server.url)
    for step in range(1, 20):
        record.put([metric(step)])
        time.sleep(0.01)
    assert finish(record) < 2, "nothing to wait for"
    assert len([one for one in caplog.messages if f"answered {status} " in one]) == 1
    assert len(server.requests) == 1
    assert f"chesboard sync {record.folder}" in caplog.text
    server.status = None
    send_all(tmp_path, server)
    assert server.only.steps == list(range(1, 20))
    assert server.only.status == "succeeded"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_server_in_trouble_is_tried_again(tmp_path, server, caplog, status) -> None:
    server.status = status
    record = recording(tmp_path, server.url)
    record.put([metric(1)])
    until(lambda: len(server.requests) >= 2)
    server.status = None
    assert finish(record) < 5
    assert server.only.steps == [1]
    assert len([one for one in caplog.messages if f"answered {status}" in one]) == 1


def test_the_server_says_how_long_to_wait(tmp_path, server) -> None:
    server.status, server.headers = 503, {"Retry-After": "2"}
    record = recording(tmp_path, server.url)
    until(lambda: server.requests)
    time.sleep(1.0)
    assert len(server.requests) == 1
    server.status = None
    finish(record)
    assert server.only.status == "succeeded"


def test_pauses_grow_to_a_minute_and_heed_the_server() -> None:
    waits = pace.Backoff()
    pauses = [waits.failed(None) for _ in range(20)]
    assert 0.05 <= pauses[0] <= 0.1
    assert all(30 <= pause <= 60 for pause in pauses[12:])
    assert waits.failed(90) >= 90
    assert waits.failed(10**6) == pace.MOST_ASKED_SECONDS
    waits.succeeded()
    assert waits.failed(None) <= 0.1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return int(opened.getsockname()[1])


def test_a_server_that_is_not_there_costs_nothing(tmp_path, caplog) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    record = recording(tmp_path, url)
    began = time.monotonic()
    for step in range(1, 200):
        record.put([metric(step)])
    assert time.monotonic() - began < 1
    assert finish(record, seconds=0.5) < 1.5
    assert f"chesboard sync {record.folder}" in caplog.text


def test_a_server_that_comes_later_gets_everything(tmp_path, caplog) -> None:
    port = free_port()
    record = recording(tmp_path, f"http://127.0.0.1:{port}")
    record.put([metric(1)])
    until(lambda: "cannot be reached" in caplog.text)
    with wire_server(port) as server:
        record.put([metric(2)])
        assert finish(record) < 8
        assert server.only.steps == [1, 2]


def test_a_server_that_restarts_gets_each_step_once(tmp_path, caplog) -> None:
    with wire_server() as first:
        record = recording(tmp_path, first.url)
        record.put([metric(1)])
        until(lambda: first.runs and first.only.steps == [1])
    record.put([metric(2)])
    until(lambda: "cannot be reached" in caplog.text)
    with wire_server(int(first.url.rpartition(":")[2]), first):
        record.put([metric(3)])
        finish(record)
    assert first.only.steps == [1, 2, 3]


def test_a_slow_server_does_not_slow_the_training(tmp_path, server) -> None:
    server.seconds = 0.5
    record = recording(tmp_path, server.url)
    began = time.monotonic()
    for step in range(1, 100):
        record.put([metric(step)])
    assert time.monotonic() - began < 0.5
    finish(record)
    assert server.only.steps == list(range(1, 100))


def test_an_answer_that_is_lost_doubles_nothing(tmp_path, server) -> None:
    server.forget_answers = 3
    record = recording(tmp_path, server.url)
    record.put([metric(1), metric(2)])
    finish(record)
    assert server.only.steps == [1, 2]


def test_a_batch_that_is_too_large_is_halved(tmp_path, server) -> None:
    server.most_records = 3
    record = recording(tmp_path, None)
    record.put([metric(step) for step in range(1, 20)])
    finish(record)
    send_all(tmp_path, server)
    assert server.only.steps == list(range(1, 20))


def test_a_batch_has_limits_of_bytes_and_of_records(tmp_path, server, monkeypatch) -> None:
    record = recording(tmp_path, None)
    record.put([metric(step) for step in range(1, 41)])
    finish(record)
    monkeypatch.setattr(delivery, "BATCH_BYTES", 2500)
    monkeypatch.setattr(delivery, "BATCH_RECORDS", 12)
    send_all(tmp_path, server)
    sizes = [len(body["records"]) for path, body in server.requests if path.endswith("/records")]
    assert sum(sizes) == 40
    assert max(sizes) <= 12
    assert len(sizes) > 4


def test_a_silent_training_is_said_to_go_on(tmp_path, server, monkeypatch) -> None:
    monkeypatch.setattr(delivery, "HEARTBEAT_SECONDS", 0.1)
    record = recording(tmp_path, server.url)
    until(lambda: server.runs and server.only.heartbeats > 0)
    finish(record)


def test_a_cancel_on_the_page_is_heard(tmp_path, server) -> None:
    record = recording(tmp_path, server.url)
    assert not record.cancel_requested
    server.cancel_requested = True
    record.put([metric(1)])
    until(lambda: record.cancel_requested)
    finish(record)


# --- offline, and sync ----------------------------------------------------------------------------


def test_offline_and_sync_give_what_online_gives(tmp_path) -> None:
    kept = []
    for name, is_online in (("online", True), ("offline", False)):
        with wire_server() as server:
            record = recording(tmp_path / name, server.url if is_online else None, key="a" * 32)
            for step in range(1, 8):
                record.put([metric(step)])
            finish(record)
            if not is_online:
                assert not server.requests
                send_all(tmp_path / name, server)
            run = server.only
            kept.append((run.body, run.records, run.status, run.attempt))
    assert kept[0] == kept[1]


def test_sync_sends_only_what_was_not_sent(tmp_path, server) -> None:
    record = recording(tmp_path, None)
    record.put([metric(1)])
    send_all(tmp_path, server)
    record.put([metric(2)])
    send_all(tmp_path, server)
    sent = [body["records"] for path, body in server.requests if path.endswith("/records")]
    assert [[one["step"] for one in batch] for batch in sent] == [[1], [2]]
    finish(record)


def test_sync_watches_until_the_run_has_ended(tmp_path, server) -> None:
    record = recording(tmp_path, None)
    rounds: list[float] = []

    def go_on(seconds: float) -> None:
        rounds.append(seconds)
        record.put([metric(len(rounds))])
        if len(rounds) == 3:
            finish(record)

    [one] = sync(tmp_path, Wire(server.url, None), watch=True, say=print, sleep=go_on)
    assert one.ended
    assert len(rounds) == 3
    assert server.only.steps == [1, 2, 3]


def test_only_one_process_sends_a_run(tmp_path, server) -> None:
    record = recording(tmp_path, server.url)
    until(lambda: server.requests)
    [one] = sync(tmp_path, Wire(server.url, None), watch=False, say=print)
    assert one.problem == "Its training is sending it."
    finish(record)
    [one] = sync(tmp_path, Wire(server.url, None), watch=False, say=print)
    assert one.problem is None


def test_an_attempt_that_goes_on_forgets_the_later_steps(tmp_path, server) -> None:
    first = recording(tmp_path, server.url)
    first.put([metric(step) for step in range(1, 8)])
    until(lambda: server.runs and len(server.only.steps) == 7)
    later = Recording(Destination(None, None, tmp_path), first.body, 5)  # the first was killed
    later.put([metric(6)])
    finish(later)
    run = server.only
    until(lambda: run.status == "succeeded")  # the first still sends what is in the folder
    assert run.attempt == 2
    assert run.steps == [1, 2, 3, 4, 5, 6]
    assert run.status == "succeeded"
    assert runs(tmp_path) == [first.folder]
    finish(first, seconds=0.2)


def test_what_an_earlier_attempt_sends_late_is_refused(tmp_path, server) -> None:
    first = recording(tmp_path / "one", server.url)
    first.put([metric(1)])
    until(lambda: server.runs and server.only.steps == [1])
    wire = Wire(server.url, None)
    assert wire.begin_attempt(1, 1) == 2
    with pytest.raises(RefusedError) as refused:
        wire.send(1, 1, [])
    assert refused.value.status == 409
    finish(first, seconds=0.5)
