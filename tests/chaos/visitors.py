"""Faults of those who visit the web server: readers who are slow, and a flood of strangers."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
from sqlalchemy.orm import Session

from tests import PROJECT_ROOT
from tests.app.many_pairs import score_pairs
from tests.app.serving import connected, get
from tests.benchmarks.slow_readers import slow_readers as reading_slowly
from tests.chaos.blow import Blow
from tests.chaos.stack import SLOW_READERS
from tests.chaos.workload import SCORE_PAIRS
from tests.support import OPERATOR_TOKEN, REVIEWER_TOKEN, VIEWER_TOKEN, bearer

MIB = 1 << 20

UNREAD_STREAMS = 100
LOOKS = 20
"""How often it is looked at what slow readers hold, a second between."""
HELD_SECONDS = 10.0
"""A transaction of an export that is so old waits for its client: to make one takes less."""
MOST_MEMORY = 400 * MIB

FLOOD_SECONDS = 20
FLOOD_MAY_WRITE = 10 * MIB
"""To log and disk, by the web server."""
REFUSED = {"408", "413", "429", "cut off"}
MAY_BE_ANSWERED = {
    "half requests": {"408", "429", "cut off"},
    "forms": REFUSED,
    "files": REFUSED,
    "guesses": {"401", "429"},
}

IDLE_TRANSACTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%' "
    "AND clock_timestamp() - xact_start > make_interval(secs => %s)"
)


def slow_readers(blow: Blow) -> None:
    """45 who read an export of scores at 1 kB a second, and 100 live pages that are never read."""
    runs, stack = blow.runs, blow.runs.stack
    with stack.connection() as connection, Session(connection) as session:
        scored = score_pairs(session, runs.datasets["many"], SCORE_PAIRS)
        session.commit()
    runs.wait_for_worker(blow.run_id, attempts=1)
    export = f"/api/v1/runs/{scored}/scores?format=csv&with_text=true"
    port = int(stack.url.rpartition(":")[2])
    events = get(f"/api/v1/runs/{blow.run_id}/events", _token(OPERATOR_TOKEN))
    held = 0
    with _bounded_memory(blow), connected(port, UNREAD_STREAMS, events):
        began = time.monotonic()
        with reading_slowly(stack.url, SLOW_READERS, export, _token(REVIEWER_TOKEN)) as readers:
            blow.notes.append(f"all had their first byte after {time.monotonic() - began:.1f} s")
            blow.queue_small()
            for _ in range(LOOKS):
                blow.sleep(1)
                [(transactions,)] = stack.query(IDLE_TRANSACTIONS, HELD_SECONDS)
                held = max(held, transactions)
        blow.times = SLOW_READERS
        blow.notes.append(f"transactions that waited for them: {held}")
        blow.expect(not held, f"{held} transactions waited for readers")
        if problem := readers.problem():
            blow.problems.append(problem)
    whole = httpx.get(f"{stack.url}{export}", headers=bearer(VIEWER_TOKEN), timeout=60)
    rows = len(whole.text.splitlines()) - 1
    blow.expect(rows == SCORE_PAIRS, f"a download after them had {rows} rows")


def strangers(blow: Blow) -> None:
    """Half-sent requests, large bodies and guesses at tokens, from the address of all others."""
    stack = blow.runs.stack
    blow.runs.wait_for_worker(blow.run_id, attempts=1)
    wrote = stack.web.io_counters().write_chars
    with (
        _bounded_memory(blow),
        subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.strangers", stack.url, str(FLOOD_SECONDS)],
            cwd=PROJECT_ROOT,
            stdout=subprocess.PIPE,
        ) as flood,
    ):
        blow.sleep(FLOOD_SECONDS / 3)
        blow.queue_small()
        while flood.poll() is None:
            blow.sleep(0.5)
        assert flood.stdout is not None
        seen = json.load(flood.stdout)
    wrote = stack.web.io_counters().write_chars - wrote
    for what, counts in seen.items():
        blow.times += sum(counts.values())
        told = ", ".join(f"{status} x {count:,}" for status, count in sorted(counts.items()))
        blow.notes.append(f"{what}: {told}")
        allowed = counts.keys() <= MAY_BE_ANSWERED[what]
        blow.expect(allowed and bool(counts), f"{what} were answered {sorted(counts)}")
    blow.notes.append(f"{wrote / 1024:.0f} KiB written")
    blow.expect(wrote < FLOOD_MAY_WRITE, f"the web server wrote {wrote / MIB:.0f} MiB")


@contextlib.contextmanager
def _bounded_memory(blow: Blow) -> Iterator[None]:
    web = blow.runs.stack.web
    before = web.memory_info().rss
    yield
    grown = web.memory_info().rss - before
    blow.notes.append(f"web server grew by {grown / MIB:.0f} MiB")
    blow.expect(grown < MOST_MEMORY, f"the web server grew by {grown / MIB:.0f} MiB")


def _token(token: str) -> str:
    return f"Authorization: Bearer {token}"
