"""Faults of a run that two processes of a worker train together (FSDP2 over gloo, on the CPU)."""

import signal
import time

import psutil

from tests.chaos.blow import Blow
from tests.chaos.workload import FINAL, pid_of
from tests.processes import ranks_of

END_SECONDS = 10.0


def rank_killed(blow: Blow) -> None:
    """kill -9 of the second process, of the first, and of the worker that started both."""
    blow.runs.wait_for_worker(blow.run_id, attempts=1)
    for victim in (1, 0, None):
        blow.until_beyond(blow.runs.row(blow.run_id)["progress_done"])
        blow.sleep_until_some_moment(0.15)
        row = blow.runs.row(blow.run_id)
        if row["status"] in FINAL:
            blow.problems.append(f"it was over after {blow.times} of 3 kills")
            return
        ranks = ranks_of(psutil.Process(pid_of(row)))
        blow.expect(sorted(ranks) == [0, 1], f"its ranks were {sorted(ranks)}")
        if victim is None:
            blow.runs.stack.signal_worker(pid_of(row), signal.SIGKILL)
        else:
            ranks[victim].kill()
        blow.times += 1
        began = time.monotonic()
        _, alive = psutil.wait_procs(ranks.values(), END_SECONDS)
        blow.expect(not alive, f"{len(alive)} ranks outlived the kill")
        blow.runs.wait_for_worker(blow.run_id, attempts=row["attempts"] + 1)
        blow.until_beyond(row["progress_done"])
        blow.waits.append(time.monotonic() - began)
