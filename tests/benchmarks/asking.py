"""Pages that open without a pause: `python -m tests.benchmarks.asking [RATE]`."""

import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import make_url, update

from app.core.database import transaction
from app.store.runs import Run
from tests.benchmarks.long_run import fill
from tests.benchmarks.made_up import hand_over_step
from tests.benchmarks.measuring import WrongFigureError
from tests.benchmarks.serving import claim, recording_to, serving
from worker.recorder import Recorder

RATE = 100
SECONDS = 20
STEPS, PROBES = 2000, 8
STEP_SECONDS = 0.1

COLUMNS = ("run", "asked for", "requests a second", "requests", "p50 ms", "p95 ms", "failed")
ABOUT = f"""The calls that a run's page makes when it opens, one kind after the other, over a run of
{STEPS:,} steps with {PROBES} probes (a look at each step) that has ended, and over one that goes on
with {1 / STEP_SECONDS:.0f} steps a second, so that every answer has to be made anew ten times a
second. Requests are sent at fixed times whether or not earlier ones are answered, and timed from
then on."""

PATHS = {
    "/api/v1/runs/1": "the run and its verdict",
    "/api/v1/runs/1/metrics?points=1000": "metrics",
    "/api/v1/runs/1/probes": "probes",
    "/api/v1/runs/1/probes/0?points=1000": "one probe",
    "/api/v1/runs/1/probes/bands?points=1000": "bands",
    "/api/v1/runs/1/probes/0/ledger?step=1000": "a ledger",
}


def rows(rate: int = RATE) -> Iterator[tuple[str, ...]]:
    """Raises WrongFigureError: a request was not answered, or not with what was asked for."""
    for run in ("ended", "live"):
        answers = measure(rate, live=run == "live")
        yield _row(run, "all of these", rate, answers)
        for path, what in PATHS.items():
            yield _row(run, what, rate / len(PATHS), [one for one in answers if one[0] == path])
        if failed := sum(status != 200 for _, status, _ in answers):
            raise WrongFigureError(f"{failed} of {len(answers)} requests for the {run} run failed")


def _row(
    run: str, what: str, rate: float, answers: list[tuple[str, int, float]]
) -> tuple[str, ...]:
    cuts = statistics.quantiles((milliseconds for _, _, milliseconds in answers), n=100)
    failed = sum(status != 200 for _, status, _ in answers)
    return (
        run, what, f"{rate:.0f}", f"{len(answers):,}", f"{cuts[49]:.0f}", f"{cuts[94]:.0f}",
        str(failed),
    )  # fmt: skip


def measure(rate: int, *, live: bool) -> list[tuple[str, int, float]]:
    """(path, status, milliseconds) of each request."""
    with serving(durable=True) as (services, address), recording_to(services):
        fill(make_url(services.database_url).render_as_string(False), STEPS, PROBES)
        command = [sys.executable, "-m", "tests.benchmarks.crowd", "ask", address]
        with _going_on() if live else nullcontext():
            done = subprocess.run(
                [*command, str(rate), str(SECONDS), *PATHS],
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        found: list[tuple[str, int, float]] = json.loads(done.stdout.splitlines()[-1])
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
