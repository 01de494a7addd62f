"""Live streams over real HTTP: what a run writes arrives in order and once, whatever breaks."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import pytest

from app.core.broker import reset_broker, wake
from app.core.database import snapshot, transaction
from app.core.settings import get_settings
from app.local.embedded import Services, free_port
from app.store.revisions import next_revision
from app.store.runs import QUIET_AFTER, Run
from app.streaming import events, feed
from app.streaming.hub import Hub
from tests import PROJECT_ROOT
from tests.app import factories
from tests.app.serving import Server, connected, get, serving
from tests.support import database_is_away, eventually

NAN = float("nan")


class Event(NamedTuple):
    name: str
    data: Any
    id: int | None


@pytest.fixture
def server(database: Services) -> Iterator[Server]:
    with serving() as server:
        yield server


@contextmanager
def stream(
    url: str, run_id: int, last_event_id: int | str | None = None, **query: Any
) -> Iterator[Iterator[Event]]:
    """The events of a run's stream, as they come. A silence of 10 s is a failure."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    with httpx.stream(
        "GET", f"{url}/runs/{run_id}/events", params=query, headers=headers, timeout=10
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield parse(answer.iter_lines())


def parse(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line:
            if "event" in fields:
                at = int(fields["id"]) if "id" in fields else None
                yield Event(fields["event"], json.loads(fields["data"]), at)
            fields = {}


def take(found: Iterator[Event], until: Callable[[Event], bool]) -> list[Event]:
    """Events up to and including the first of which `until` holds."""
    taken = []
    for event in found:
        taken.append(event)
        if until(event):
            return taken
    raise AssertionError(f"the stream ended after {[event.name for event in taken]}")


def names(found: list[Event]) -> list[str]:
    return [event.name for event in found]


def steps(found: list[Event]) -> list[int]:
    return [event.data["step"] for event in found if event.name == "metric"]


@pytest.fixture
def run_id(database: Services) -> int:
    """A running run at revision 1 that watches pair 0."""
    with transaction() as session:
        run = factories.run(session, factories.dataset(session).id, revision=1)
        factories.probe(session, run.id)
        return run.id


def write(run_id: int, *metric_steps: int, call: bool = True, **columns: Any) -> int:
    """One write of the run: its steps, its progress, a revision, and then the wake-up."""
    with transaction() as session:
        revision = next_revision(session, run_id)
        for step in metric_steps:
            factories.metric(session, run_id, step, revision=revision)
        run = session.get_one(Run, run_id)
        run.progress_done = max((run.progress_done, *metric_steps))
        for name, value in columns.items():
            setattr(run, name, value)
    if call:
        wake(run_id, revision)
    return revision


@contextmanager
def without_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings name a Redis that nobody started."""
    with monkeypatch.context() as patch:
        patch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
        get_settings.cache_clear()
        reset_broker()
        yield
    get_settings.cache_clear()
    reset_broker()


# --- what is sent ----------------------------------------------------------------------------


def test_without_a_position_everything_is_sent_and_then_the_status(
    server: Server, run_id: int
) -> None:
    for step in (1, 2, 3):
        write(run_id, step)
    with stream(server.url, run_id) as found:
        taken = take(found, lambda event: event.name == "status")
    assert steps(taken) == [1, 2, 3]
    assert [event.id for event in taken] == [2, 3, None, 4]
    answer = httpx.get(f"{server.url}/runs/{run_id}").json()
    assert taken[-1].data == answer
    metrics = httpx.get(f"{server.url}/runs/{run_id}/metrics").json()
    assert [event.data for event in taken[:-1]] == metrics["items"]


def test_after_the_revision_that_a_page_loaded_only_news_is_sent(
    server: Server, run_id: int
) -> None:
    write(run_id, 1)
    loaded = httpx.get(f"{server.url}/runs/{run_id}/metrics").json()["revision"]
    with stream(server.url, run_id, since=loaded) as found:
        write(run_id, 2)
        taken = take(found, lambda event: event.id is not None)
    assert names(taken) == ["metric", "progress"]
    assert steps(taken) == [2]
    assert taken[-1].data == {
        "done": 2,
        "total": None,
        "unit": "steps",
        "eta_seconds": None,
        "phase": None,
        "verdict": None,
        "verdict_short": None,
        "verdict_pair": None,
        "displaced": None,
        "displacement_kind": None,
        "displacement": None,
        "heard_at": None,
        "recorded_through": None,
        "revision": 3,
    }


def test_a_probe_event_has_all_of_a_step(server: Server, run_id: int) -> None:
    with transaction() as session:
        step = factories.probe_step(session, run_id, step=3, preferred_logprobs=[-1.5, NAN])
    with stream(server.url, run_id) as found:
        [probe, _] = take(found, lambda event: event.name == "status")
    assert probe.name == "probe"
    assert set(probe.data) == {
        "pair",
        "step",
        "preferred_logprobs",
        "dispreferred_logprobs",
        "preferred_change",
        "dispreferred_change",
        "onset_step",
        "preferred_prob",
        "dispreferred_prob",
        "other_prob",
        "group_probs",
        "watched_probs",
        "gainers",
        "losers",
        "rest_change",
        "moved_mass",
        "recent",
        "predicted_changes",
        "predicted_ranks",
        "rank_agreement",
        "argmax_token",
        "argmax_logprob",
        "kl",
        "recorded_at",
    }
    assert probe.data["preferred_logprobs"] == [-1.5, None]
    assert probe.data["gainers"] == step.gainers


def test_an_answer_is_an_event_of_its_own(server: Server, run_id: int) -> None:
    with transaction() as session:
        factories.answer(session, run_id, step=4, text="No,\n<b>never</b>", ended=True)
    with stream(server.url, run_id) as found:
        [answer, _] = take(found, lambda event: event.name == "status")
    assert answer.name == "answer"
    assert answer.data == {"pair": 0, "step": 4, "text": "No,\n<b>never</b>", "ended": True}


def test_a_change_of_more_than_progress_is_a_status(server: Server, run_id: int) -> None:
    with stream(server.url, run_id, since=1) as found:
        write(run_id, messages=["The batch was made smaller."])
        [event] = take(found, lambda event: event.id is not None)
    assert event.name == "status"
    assert event.data["messages"] == ["The batch was made smaller."]


def test_a_phase_is_progress(server: Server, run_id: int) -> None:
    with stream(server.url, run_id, since=1) as found:
        write(run_id, phase="downloading", phase_done=3, phase_total=15, phase_unit="bytes")
        [event] = take(found, lambda event: event.id is not None)
    assert event.name == "progress"
    assert event.data["phase"] == {
        "name": "downloading",
        "done": 3,
        "total": 15,
        "unit": "bytes",
        "eta_seconds": None,
    }
    assert (event.data["done"], event.data["unit"]) == (0, "steps")


def test_a_step_that_is_repeated_is_sent_again_as_it_is_now(server: Server, run_id: int) -> None:
    write(run_id, 1, 2)
    with transaction() as session:
        factories.metric(session, run_id, 1, loss=0.123)
    with stream(server.url, run_id) as found:
        taken = take(found, lambda event: event.name == "status")
    assert steps(taken) == [2, 1]
    assert taken[1].data["loss"] == 0.123


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_the_end_follows_the_final_status(server: Server, run_id: int, status: str) -> None:
    with stream(server.url, run_id, since=1) as found:
        write(run_id, 1)
        last = write(run_id, status=status)
        taken = list(found)
    assert names(taken)[-2:] == ["status", "end"]
    assert taken[-2].data["status"] == status
    assert taken[-2].id == last
    assert taken[-1].data == {"reason": "finished", "status": status}
    with stream(server.url, run_id, last_event_id=last) as found:
        assert names(list(found)) == ["end"]


def test_a_deleted_run_ends_its_streams(server: Server, run_id: int) -> None:
    waiting = write(run_id, status="queued")
    with stream(server.url, run_id, since=waiting) as found:
        assert httpx.delete(f"{server.url}/runs/{run_id}").status_code == 204
        [event] = list(found)
    assert (event.name, event.data["reason"]) == ("end", "deleted")


# --- coming back -----------------------------------------------------------------------------


def test_a_browser_that_keeps_losing_its_connection_misses_nothing_and_gets_nothing_twice(
    server: Server, run_id: int
) -> None:
    writer = threading.Thread(
        target=lambda: (
            [write(run_id, 2 * n + 1, 2 * n + 2) for n in range(60)]
            and write(run_id, status="succeeded")
        )
    )
    writer.start()
    kept: list[Event] = []
    last_id: int | None = None
    for patience in itertools.count(1):
        # As a browser does it: what came with or before the last id stays, the rest comes anew.
        pending: list[Event] = []
        with stream(server.url, run_id, last_event_id=last_id) as found:
            for event in itertools.islice(found, patience % 8 + 1):
                pending.append(event)
                if event.id is not None:
                    kept, last_id, pending = kept + pending, event.id, []
        if pending and pending[-1].name == "end":
            break
    writer.join()
    assert steps(kept) == list(range(1, 121))
    ids = [event.id for event in kept if event.id is not None]
    assert ids == sorted(set(ids))


def test_the_header_counts_more_than_the_address(server: Server, run_id: int) -> None:
    for step in (1, 2, 3):
        write(run_id, step)
    with stream(server.url, run_id, last_event_id=3, since=0) as found:
        assert steps(take(found, lambda event: event.name == "status")) == [3]


@pytest.mark.parametrize("position", ["9" * 18, "9" * 100, "nonsense", ""])
def test_a_position_that_this_store_never_had_begins_anew(
    server: Server, run_id: int, position: str
) -> None:
    write(run_id, 1)
    with stream(server.url, run_id, last_event_id=position) as found:
        assert steps(take(found, lambda event: event.name == "status")) == [1]


def test_a_long_history_comes_in_chunks_without_a_seam(
    server: Server, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "ROWS_A_CHUNK", 10)
    expected = []
    for revision in range(2, 32):
        # Revisions of many sizes, one larger than a chunk, with probes among the metrics.
        some = [100 * revision + n for n in range(25 if revision == 9 else revision % 4)]
        write(run_id, *some, call=False)
        with transaction() as session:
            for step in some[:2]:
                factories.probe_step(session, run_id, step=step, revision=revision)
        expected += some
    with stream(server.url, run_id) as found:
        taken = take(found, lambda event: event.name == "status")
    assert steps(taken) == expected
    probed = [event.data["step"] for event in taken if event.name == "probe"]
    assert probed == sorted(set(probed))
    assert len(probed) == sum(min(2, 25 if r == 9 else r % 4) for r in range(2, 32))
    ids = [event.id for event in taken if event.id is not None]
    assert ids == sorted(set(ids))
    # From the middle, the same tail.
    with stream(server.url, run_id, last_event_id=ids[12]) as found:
        rest = take(found, lambda event: event.name == "status")
    position = next(n for n, event in enumerate(taken) if event.id == ids[12])
    assert rest == taken[position + 1 :]


def test_a_chunk_ends_after_so_many_bytes(run_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # A recorder's row may be as long as its batch: two hundred of them would fill the memory.
    for step in range(1, 7):
        write(run_id, 10 * step, 10 * step + 1, call=False)
    with snapshot() as session:
        monkeypatch.setattr(events, "BYTES_A_CHUNK", 10_000_000)
        whole = events.read_rows(session, run_id, 1, 7, b"closing")
        monkeypatch.setattr(events, "BYTES_A_CHUNK", len(whole.data) * 2 // 5)
        chunks = []
        while not chunks or chunks[-1].end < 7:
            start = chunks[-1].end if chunks else 1
            chunks.append(events.read_rows(session, run_id, start, 7, b"closing"))
    assert whole.end == 7
    assert [(one.start, one.end) for one in chunks] == [(1, 4), (4, 7)]
    assert all(len(one.data) < len(whole.data) * 0.7 for one in chunks)
    # No revision is split, and nothing is lost or said twice.
    assert b"".join(one.data for one in chunks) == whole.data


# --- how it gets there -----------------------------------------------------------------------


def test_a_wake_up_brings_a_step_at_once(server: Server, run_id: int) -> None:
    # The wake-up is what is tested here: polling alone would take seconds.
    with stream(server.url, run_id, since=1) as found:
        eventually(lambda: server.app.state.hub.redis_is_up)
        delays = []
        for step in range(1, 11):
            written = time.monotonic()
            write(run_id, step)
            take(found, lambda event: event.id is not None)
            delays.append(time.monotonic() - written)
    assert sorted(delays)[5] < feed.POLL_SECONDS / 2


def test_without_redis_the_store_is_polled(
    database: Services, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        without_redis(monkeypatch),
        serving() as server,
        stream(server.url, run_id, since=1) as found,
    ):
        began = time.monotonic()
        write(run_id, 1)
        assert steps(take(found, lambda event: event.id is not None)) == [1]
        assert time.monotonic() - began < feed.SAFETY_POLL_SECONDS / 2


def test_a_page_is_told_when_the_store_goes_away_and_when_it_is_back(
    server: Server, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(feed, "SAFETY_POLL_SECONDS", 0.05)
    away, really = threading.Event(), feed.load_run

    def load(run_id: int) -> Any:
        if away.is_set():
            raise database_is_away()
        return really(run_id)

    monkeypatch.setattr(feed, "load_run", load)
    with stream(server.url, run_id, since=1) as found:
        write(run_id, 1)
        assert "store" not in names(take(found, lambda event: event.id is not None))
        away.set()
        [told] = take(found, lambda event: event.name == "store")
        assert (told.data, told.id) == ({"answers": False}, None)
        write(run_id, 2)
        away.clear()
        taken = take(found, lambda event: event.name == "store")
        taken += take(found, lambda event: event.id is not None) if not steps(taken) else []
        assert steps(taken) == [2]
        assert [event.data for event in taken if event.name == "store"] == [{"answers": True}]


def test_a_run_that_falls_silent_says_so_once_and_then_that_it_reports_again(
    server: Server, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SAFETY_POLL_SECONDS", 0.05)
    with stream(server.url, run_id, since=1) as found:
        long_ago = datetime.now(UTC) - QUIET_AFTER - timedelta(seconds=1)
        with transaction() as session:
            session.get_one(Run, run_id).reported_at = long_ago  # time passes, nothing is written
        [told] = take(found, lambda event: event.name == "quiet")
        assert (datetime.fromisoformat(told.data["since"]), told.id) == (long_ago, None)
        write(run_id, 1, reported_at=datetime.now(UTC))
        following = take(found, lambda event: event.id is not None)
        assert "quiet" not in names(following)
        # Whoever comes to a silent run is told, too.
        with transaction() as session:
            session.get_one(Run, run_id).reported_at = long_ago
        take(found, lambda event: event.name == "quiet")
        with stream(server.url, run_id, since=2) as later:
            assert names(take(later, lambda event: event.name == "quiet")) == ["quiet"]


def test_a_lost_wake_up_costs_a_while_and_no_step(
    server: Server, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SAFETY_POLL_SECONDS", 0.3)
    with stream(server.url, run_id, since=1) as found:
        eventually(lambda: server.app.state.hub.redis_is_up)
        for step in (1, 2, 3):
            write(run_id, step, call=False)
            assert steps(take(found, lambda event: event.id is not None)) == [step]


def test_a_silent_stream_is_kept_alive(
    server: Server, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "KEEP_ALIVE_SECONDS", 0.1)
    url = f"{server.url}/runs/{run_id}/events"
    with httpx.stream("GET", url, params={"since": 1}, timeout=10) as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(4)] == ["retry: 1000", "", ": keep-alive", ""]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"


def test_watchers_of_a_run_share_one_feed_and_the_last_takes_it_down(
    server: Server, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SAFETY_POLL_SECONDS", 60)
    reads: list[int] = []
    read_rows = events.read_rows

    def count(*given: Any) -> events.Chunk:
        reads.append(given[2])
        return read_rows(*given)

    monkeypatch.setattr(events, "read_rows", count)
    hub: Hub = server.app.state.hub
    with (
        stream(server.url, run_id, since=1) as one,
        stream(server.url, run_id, since=1) as two,
        stream(server.url, run_id, since=1) as three,
    ):
        eventually(lambda: hub.feeds and hub.feeds[run_id].watchers == 3)
        eventually(lambda: hub.redis_is_up)
        write(run_id, 1)
        for found in (one, two, three):
            assert steps(take(found, lambda event: event.id is not None)) == [1]
        assert len(reads) == 1
    eventually(lambda: not hub.feeds)
    eventually(lambda: not hub.redis_is_up)


def test_watchers_that_open_a_run_together_share_what_is_read_and_kept(
    server: Server, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that never read are ended, and are as many as the settings say."""
    reads: list[int] = []

    def load(*args: Any) -> events.Chunk:
        reads.append(args[1])
        time.sleep(0.3)
        return original(*args)

    original = feed._load_rows
    monkeypatch.setattr(feed, "_load_rows", load)
    write(run_id, *range(30))
    asked = get(f"/api/v1/runs/{run_id}/events")
    with connected(server.port, 20, asked), stream(server.url, run_id) as found:
        assert take(found, lambda event: event.id is not None)
        (watched,) = server.app.state.hub.feeds.values()
        assert watched.watchers == 21
        assert len(reads) == 1


def test_streams_have_a_number(
    database: Services, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHESBOARD_MAX_STREAMS", "4")
    get_settings.cache_clear()
    with serving() as server, connected(server.port, 2, get(f"/api/v1/runs/{run_id}/events")):
        eventually(lambda: server.app.state.streams._held.total() == 2)
        answer = httpx.get(f"{server.url}/runs/{run_id}/events", timeout=5)
        assert answer.status_code == 429
        assert "2 live pages of yours" in answer.json()["detail"]


def test_open_streams_do_not_hold_up_a_shutdown(run_id: int) -> None:
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory"),
            *("--port", str(port), "--log-level", "error"),
        ],
        cwd=PROJECT_ROOT,
        env=dict(os.environ),
        stderr=subprocess.PIPE,
    )
    try:
        url = f"http://127.0.0.1:{port}/api/v1"
        eventually(lambda: answers(f"{url}/runs"), seconds=60)
        with stream(url, run_id) as found:
            take(found, lambda event: event.name == "status")
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert list(found) == []
            process.wait(10)
        assert time.monotonic() - asked < 5
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
