"""From the end of an optimiser step to its point at the browser's door: recorder, PostgreSQL,
Redis, web process, Server-Sent Events. Drawing it is measured in a browser, not here.

    python -m tests.benchmarks.live [--steps 300]
"""

import argparse
import json
import os
import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from app import broker
from app import database as db
from app.database import transaction
from app.runs import leases
from app.runs.records import (
    LedgerEntry,
    LedgerRecord,
    MetricRecord,
    ProbeRecord,
    ProbeStepRecord,
    RecentLedger,
)
from app.services import Services
from app.settings import get_settings
from tests.app import factories
from tests.benchmarks.serving import serving
from worker.recording import Recorder

PROBES = 4
WARM_UP = 10
LONGEST_PAUSE_SECONDS = 0.12
"""Steps come at uneven times, so that nothing falls into step with them."""


def rows(steps: int = 300) -> list[str]:
    """Lines of a table: `| live | what | p50 ms | p95 ms |`."""
    milliseconds = sorted(1000 * seconds for seconds in measure(steps))
    cuts = statistics.quantiles(milliseconds, n=100)
    return [
        f"| live | step's end to its event, {PROBES} probes a step, {len(milliseconds)} steps | "
        f"p50 {cuts[49]:.0f} ms | p95 {cuts[94]:.0f} ms |"
    ]


def measure(steps: int) -> list[float]:
    """Seconds of each step from its end to the arrival of its `metric` event."""
    with serving() as (services, address), _settings_of(services):
        with transaction() as session:
            dataset = factories.dataset(session)
            run = factories.run(session, dataset.id, status="queued")
        with transaction() as session:
            claim = leases.claim(session, run.id, "bench", get_settings().lease)
        assert claim is not None
        arrived: dict[int, float] = {}
        listening = threading.Event()
        listener = threading.Thread(
            target=_listen, args=(address, run.id, steps, arrived, listening), daemon=True
        )
        listener.start()
        assert listening.wait(20), "the stream did not open"
        with Recorder(claim.run_id, claim.token) as recorder:
            ended = _record(recorder, steps)
            listener.join(20)
        assert len(arrived) == steps, f"{steps - len(arrived)} steps never arrived"
        return [arrived[step] - ended[step] for step in range(WARM_UP + 1, steps + 1)]


def _record(recorder: Recorder, steps: int) -> dict[int, float]:
    """Hand over each step as training does; returns when each had ended."""
    for pair in range(PROBES):
        recorder.probe(ProbeRecord(pair, "Is it?", ["No"], ["Never"], 0, [], []))
    ended = {}
    for step in range(1, steps + 1):
        time.sleep(random.uniform(0.02, LONGEST_PAUSE_SECONDS))
        ended[step] = time.perf_counter()
        recorder.metric(_metric(step))
        recorder.progress(step, steps, "steps")
        for pair in range(PROBES):
            recorder.probe_step(_probe_step(pair, step))
    return ended


def _listen(
    address: str, run_id: int, steps: int, arrived: dict[int, float], listening: threading.Event
) -> None:
    with httpx.stream("GET", f"{address}/api/v1/runs/{run_id}/events", timeout=60) as answer:
        event = ""
        for line in answer.iter_lines():
            listening.set()
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and event == "metric":
                now = time.perf_counter()
                arrived[json.loads(line.removeprefix("data: "))["step"]] = now
                if len(arrived) == steps:
                    return


@contextmanager
def _settings_of(services: Services) -> Iterator[None]:
    """This process records to the servers that the web process serves from."""
    os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = services.database_url, services.redis_url
    _forget_connections()
    try:
        yield
    finally:
        del os.environ["DATABASE_URL"], os.environ["REDIS_URL"]
        _forget_connections()


def _forget_connections() -> None:
    get_settings.cache_clear()
    db.reset_engine()
    broker.reset_broker()


def _metric(step: int) -> MetricRecord:
    return MetricRecord(step, *[0.5] * 11, tokens_seen=100 * step)


def _probe_step(pair: int, step: int) -> ProbeStepRecord:
    """As large as a worker's: 20 tokens of response, 110 watched, ledgers of ten and ten."""
    entries = [LedgerEntry(n, f" t{n}", 0.1, 0.2, 0.1, 0.01) for n in range(10)]
    recent = RecentLedger(step - 1, entries, entries, 0.0, 0.5)
    ledger = LedgerRecord(
        [0.01] * 110, entries, entries, 0.0, 0.5, recent, [0.1] * 10, list(range(1, 11)), 0.5
    )
    return ProbeStepRecord(
        pair, step, [-0.5] * 20, [-0.6] * 20, -0.1, -0.2, None, 0.4, 0.1, 0.5, [], ledger
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    print("\n".join(rows(parser.parse_args().steps)))


if __name__ == "__main__":
    main()
