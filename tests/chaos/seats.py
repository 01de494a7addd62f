"""Faults of a run that workers with seats train together, as on machines of their own; one more
worker than there are seats stands by."""

import signal
import time

import psutil

from tests.chaos.blow import Blow
from tests.chaos.workload import FINAL, pid_of
from tests.processes import ranks_of

SEATS = 2
FROZEN_SECONDS = 10.0
"""Twice the lease."""
END_SECONDS = 20.0


def _holder(blow: Blow, seat: int) -> int:
    """The process of the worker on a seat of the present attempt, once its part of the training
    runs; 0: the run is over."""
    query = (
        "SELECT run_seats.worker FROM run_seats JOIN runs ON runs.id = run_id "
        "AND runs.lease_token = attempt_token "
        "WHERE run_id = %s AND seat = %s AND run_seats.worker IS NOT NULL"
    )
    blow.until_beyond(blow.runs.row(blow.run_id)["progress_done"])
    blow.sleep_until_some_moment(0.15)
    while blow.runs.row(blow.run_id)["status"] not in FINAL:
        blow.runs.stack.tend_workers()
        for (worker,) in blow.runs.stack.query(query, blow.run_id, seat):
            pid = pid_of({"worker": worker})
            if pid in blow.runs.stack.worker_pids() and ranks_of(psutil.Process(pid)):
                return pid
        time.sleep(0.02)
    return 0


def _until_the_next_attempt(blow: Blow, attempts: int) -> None:
    """Wait until others go on beyond what the attempt before had done."""
    began = time.monotonic()
    reached = blow.runs.wait_for_worker(blow.run_id, attempts + 1)["progress_done"]
    blow.until_beyond(reached)
    blow.waits.append(time.monotonic() - began)


def first_seat_killed(blow: Blow) -> None:
    """kill -9 of the worker on the first seat, which has the run's lease and records; twice."""
    for number in range(2):
        pid = _holder(blow, 0)
        attempts = blow.runs.row(blow.run_id)["attempts"]
        if not pid:
            blow.problems.append(f"it was over after {number} of 2 kills")
            return
        ranks = ranks_of(psutil.Process(pid))
        blow.expect(sorted(ranks) == [0], f"the first seat's ranks were {sorted(ranks)}")
        blow.runs.stack.signal_worker(pid, signal.SIGKILL)
        blow.times += 1
        _, alive = psutil.wait_procs(ranks.values(), END_SECONDS)
        blow.expect(not alive, f"{len(alive)} ranks outlived the kill")
        _until_the_next_attempt(blow, attempts)


def further_seat_frozen(blow: Blow) -> None:
    """SIGSTOP of the worker on the second seat, and of what it started, for longer than its lease,
    while the one that stands by takes a seat; then SIGCONT. Twice."""
    for number in range(2):
        pid = _holder(blow, SEATS - 1)
        attempts = blow.runs.row(blow.run_id)["attempts"]
        if not pid:
            blow.problems.append(f"it was over after {number} of 2 times")
            return
        frozen = psutil.Process(pid)
        below = frozen.children(recursive=True)
        ranks = ranks_of(frozen)
        blow.expect(sorted(ranks) == [1], f"the second seat's ranks were {sorted(ranks)}")
        began = time.monotonic()
        blow.runs.stack.signal_worker(pid, signal.SIGSTOP)
        for process in below:
            process.suspend()
        blow.times += 1
        _until_the_next_attempt(blow, attempts)
        blow.sleep(max(0.0, FROZEN_SECONDS - (time.monotonic() - began)))
        blow.runs.stack.signal_worker(pid, signal.SIGCONT)
        for process in below:
            process.resume()
        _, alive = psutil.wait_procs(ranks.values(), END_SECONDS)
        blow.expect(not alive, f"{len(alive)} ranks of the lost seat went on")
