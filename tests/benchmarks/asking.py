"""Pages that open without a pause: `python -m tests.benchmarks.asking [RATE]`."""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

from sqlalchemy import make_url, update

from app.core.database import transaction
from app.store.runs import Run
from tests.app import factories
from tests.app.many_pairs import repeat_pair, score_pairs
from tests.benchmarks.long_run import fill
from tests.benchmarks.made_up import hand_over_step
from tests.benchmarks.measuring import WrongFigureError
from tests.benchmarks.serving import claim, recording_to, serving
from tests.benchmarks.slow_readers import slow_readers
from worker.recorder import Recorder

RATE = 100
SECONDS = 20
STEPS, PROBES = 2000, 8
STEP_SECONDS = 0.1
SLOW_READERS, SCORED = 45, 20_000
SETTLE_SECONDS = 10
"""Until the exports of the last of them are made."""
MOST_RATIO = 2

COLUMNS = ("run", "asked for", "requests a second", "requests", "p50 ms", "p95 ms", "failed")
ABOUT = f"""The calls that a run's page makes when it opens, one kind after the other, over a run of
{STEPS:,} steps with {PROBES} probes (a look at each step) that has ended, and over one that goes on
with {1 / STEP_SECONDS:.0f} steps a second, so that every answer has to be made anew ten times a
second. Requests are sent at fixed times whether or not earlier ones are answered, and timed from
then on. Then the same in the same server as {SLOW_READERS} others come for an export of {SCORED:,}
scores, each of which is made by the web process, and once more while they read these at 1 kB a
second."""

PATHS = {
    "/api/v1/runs/1": "the run and its verdict",
    "/api/v1/runs/1/metrics?points=1000": "metrics",
    "/api/v1/runs/1/probes": "probes",
    "/api/v1/runs/1/probes/0?points=1000": "one probe",
    "/api/v1/runs/1/probes/bands?points=1000": "bands",
    "/api/v1/runs/1/probes/0/ledger?step=1000": "a ledger",
}


def rows(rate: int = RATE) -> Iterator[tuple[str, ...]]:
    """Raises WrongFigureError: a request was not answered, or not with what was asked for, or the
    slow readers were none."""
    for run in ("ended", "live"):
        found = measure(rate, live=run == "live")
        yield _row(run, "all of these", rate, found.alone)
        for path, what in PATHS.items():
            yield _row(run, what, rate / len(PATHS), [one for one in found.alone if one[0] == path])
        yield _row(run, f"all, as {SLOW_READERS} slow readers come", rate, found.coming)
        ratio = _percentile(found.beside, 95) / _percentile(found.alone, 95)
        beside = _row(run, f"all, beside {SLOW_READERS} slow readers", rate, found.beside)
        *cells, p95, failed = beside
        missed = "" if ratio <= MOST_RATIO else ", missed"
        yield (*cells, f"{p95} ({ratio:.2f} of without; {MOST_RATIO} at most{missed})", failed)
        answers = [*found.alone, *found.coming, *found.beside]
        if failed_ones := sum(status != 200 for _, status, _ in answers):
            asked = f"{len(answers)} requests for the {run} run"
            raise WrongFigureError(f"{failed_ones} of {asked} failed")
        if found.problem:
            raise WrongFigureError(found.problem)


Answers = list[tuple[str, int, float]]
"""(path, status, milliseconds) of each request."""


class Measured(NamedTuple):
    """What was answered without slow readers, as they came, and beside them; and why they were no
    slow readers, if so."""

    alone: Answers
    coming: Answers
    beside: Answers
    problem: str | None


def _row(run: str, what: str, rate: float, answers: Answers) -> tuple[str, ...]:
    failed = sum(status != 200 for _, status, _ in answers)
    p50, p95 = (_percentile(answers, percent) for percent in (50, 95))
    return (
        run, what, f"{rate:.0f}", f"{len(answers):,}", f"{p50:.0f}", f"{p95:.0f}", str(failed),
    )  # fmt: skip


def _percentile(answers: Answers, percent: int) -> float:
    return statistics.quantiles((one[2] for one in answers), n=100)[percent - 1]


def measure(rate: int, *, live: bool) -> Measured:
    downloads = {"CHESBOARD_MAX_DOWNLOADS": str(2 * SLOW_READERS)}  # half of it for one person
    with serving(durable=True, **downloads) as (services, address), recording_to(services):
        fill(make_url(services.database_url).render_as_string(False), STEPS, PROBES)
        with transaction() as session:
            dataset = factories.dataset(session, 1)
            repeat_pair(session, dataset, SCORED)
            scored = score_pairs(session, dataset.id, SCORED)
        export = f"/api/v1/runs/{scored}/scores?format=csv&with_text=true"
        with _going_on() if live else nullcontext(), ThreadPoolExecutor(1) as meanwhile:
            alone = _ask(address, rate)
            coming = meanwhile.submit(_ask, address, rate)
            with slow_readers(address, SLOW_READERS, export) as readers:
                coming.result()
                time.sleep(SETTLE_SECONDS)
                beside = _ask(address, rate)
        return Measured(alone, coming.result(), beside, readers.problem())


def _ask(address: str, rate: int) -> Answers:
    command = [sys.executable, "-m", "tests.benchmarks.crowd", "ask", address]
    done = subprocess.run(
        [*command, str(rate), str(SECONDS), *PATHS], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: Answers = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _going_on() -> Iterator[None]:
    """The filled run, taken up again and recorded."""
    with transaction() as session:
        session.execute(update(Run).values(status="queued"))
    claimed = claim(1)
    over = threading.Event()

    def record() -> None:
        with Recorder(claimed.run_id, claimed.token) as recorder:
            step = STEPS
            while not over.wait(STEP_SECONDS):
                step += 1
                hand_over_step(recorder, step, 2 * STEPS, probes=True)

    recording = threading.Thread(target=record)
    recording.start()
    try:
        yield
    finally:
        over.set()
        recording.join()


if __name__ == "__main__":
    print(*rows(int(sys.argv[1]) if sys.argv[1:] else RATE), sep="\n")
