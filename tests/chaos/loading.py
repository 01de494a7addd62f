"""Faults of what a model brings: its chat template never ends, or its worker dies as it loads."""

import os
import signal
import time

from tests.chaos.blow import Blow
from tests.chaos.models import LARGE
from tests.chaos.workload import FINAL, Runs, pid_of
from worker.template_bounds import SECONDS as TEMPLATE_SECONDS

CANCEL_SECONDS = 5.0
SLACK_SECONDS = 15.0
"""For loading the model, on a busy machine."""
WAIT_SECONDS = 120.0


def wedged(runs: Runs) -> list[int]:
    """Each worker has a run whose template loops for ever."""
    ids = [runs.start("wedged scoring"), runs.start("wedged training")]
    for run_id in ids:
        runs.wait_for_worker(run_id, attempts=1)
    return ids


def template_wedged(blow: Blow) -> None:
    """One of two wedged runs is cancelled, the other ends by its bound; the run that waits behind
    them is done."""
    cancelled, left_alone = blow.ahead
    began = time.monotonic()
    blow.sleep(2)
    asked = time.monotonic()
    blow.runs.cancel(cancelled)
    row = blow.runs.wait(cancelled, WAIT_SECONDS)
    took = time.monotonic() - asked
    blow.expect(
        row["status"] == "cancelled" and took < CANCEL_SECONDS,
        f"the cancelled one {row['status']} after {took:.1f} s",
    )
    blow.runs.wait_for_worker(blow.run_id, attempts=1)
    blow.waits.append(time.monotonic() - began)
    row = blow.runs.wait(left_alone, WAIT_SECONDS)
    seconds = blow.runs.seconds(left_alone)
    message = (row["error"] or {}).get("message", "")
    blow.expect(
        row["status"] == "failed" and "chat template takes more than" in message,
        f"the one that was left alone {row['status']}, saying {message!r}",
    )
    blow.expect(seconds < TEMPLATE_SECONDS + SLACK_SECONDS, f"it ended after {seconds:.0f} s")
    blow.times = len(blow.ahead)
    blow.notes.append(f"one cancelled within {took:.1f} s, one failed after {seconds:.0f} s")


def anew(runs: Runs) -> list[int]:
    """The file is another than what was dequantized, by its time."""
    os.utime(runs.stack.folder / "models" / LARGE)
    return []


def killed(blow: Blow) -> None:
    """kill -9 of the worker as it dequantizes the model, and of the next one as it loads it."""
    # Loading what is dequantized already is over in a moment.
    for number, (phase, within) in enumerate((("dequantizing", 0.2), ("loading", 0)), start=1):
        blow.runs.wait_for_worker(blow.run_id, attempts=number)
        _wait_for_phase(blow.runs, blow.run_id, phase)
        blow.sleep(blow.draw.uniform(0, within))
        blow.runs.stack.signal_worker(pid_of(blow.runs.row(blow.run_id)), signal.SIGKILL)
        blow.times += 1
        began = time.monotonic()
        row = blow.runs.row(blow.run_id)
        blow.expect(row["phase"] == phase, f"it was killed while {row['phase']}, not {phase}")
        blow.runs.wait_for_worker(blow.run_id, attempts=number + 1)
        blow.waits.append(time.monotonic() - began)
    blow.runs.wait(blow.run_id)
    dequantized = blow.runs.stack.folder / "cache" / "gguf"
    # A lock's file, which is empty, stays: whoever waits for it has it open.
    left = [path.name for path in dequantized.glob(".*") if path.suffix != ".lock"]
    blow.expect(not left, f"the killed worker's files are left: {left}")


def _wait_for_phase(runs: Runs, run_id: int, phase: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        runs.stack.tend_workers()
        row = runs.row(run_id)
        if row["status"] == "running" and row["phase"] == phase:
            return
        if row["status"] in FINAL or time.monotonic() > deadline:
            raise AssertionError(f"run {run_id} was not {phase}: {row}\n{runs.stack.words()}")
        time.sleep(0.01)
