"""What is done to a run. Each fault says how often it struck and how long the run stood still."""

import signal
import time

from tests.chaos import loading, pairs, seats, visitors
from tests.chaos.blow import Blow, Fault, Patience
from tests.chaos.ranks import rank_killed
from tests.chaos.stack import WorkerKind
from tests.chaos.workload import FINAL, pid_of

KILLS = 10
SHARD_KILLS = 4
"""The other worker does the run's shards meanwhile."""
AWAY_SECONDS = 20.0
FROZEN_SECONDS = 10.0
"""Twice the lease."""

TRIES_AT_ONE_PLACE = 3
"""So many workers lost in a row fail a run, as they should; here it is the one before the last."""


def worker_killed(blow: Blow) -> None:
    """kill -9, ten times over in one run."""
    for number in range(KILLS):
        row = blow.runs.wait_for_worker(blow.run_id, attempts=number + 1)
        while row["tries_here"] >= TRIES_AT_ONE_PLACE and row["status"] not in FINAL:
            time.sleep(0.02)
            row = blow.runs.row(blow.run_id)
        blow.sleep_until_some_moment(1.2 / KILLS)
        row = blow.runs.row(blow.run_id)
        if row["status"] != "running":
            blow.problems.append(f"it was over after {number} of {KILLS} kills")
            return
        blow.runs.stack.signal_worker(pid_of(row), signal.SIGKILL)
        blow.times += 1
        began = time.monotonic()
        blow.runs.wait_for_worker(blow.run_id, attempts=row["attempts"] + 1)
        blow.waits.append(time.monotonic() - began)


def _a_shard(blow: Blow) -> tuple[int, str] | None:
    """One that a worker has, and the worker's name; None once the run is over."""
    query = (
        "SELECT shard, worker FROM run_shards WHERE run_id = %s AND status = 'running' "
        f"AND tries_here < {TRIES_AT_ONE_PLACE}"
    )
    while blow.runs.row(blow.run_id)["status"] not in FINAL:
        blow.runs.stack.tend_workers()
        pids = blow.runs.stack.worker_pids()
        held = [
            (int(shard), str(worker))
            for shard, worker in blow.runs.stack.query(query, blow.run_id)
            if pid_of({"worker": worker}) in pids
        ]
        if held:
            return blow.draw.choice(held)
        time.sleep(0.02)
    return None


def _until_another_has(blow: Blow, shard: int, worker: str) -> None:
    """Wait until a shard that this worker had is another's, or done."""
    query = "SELECT status, worker FROM run_shards WHERE run_id = %s AND shard = %s"
    began = time.monotonic()
    while True:
        blow.runs.stack.tend_workers()
        [(status, now)] = blow.runs.stack.query(query, blow.run_id, shard)
        if status == "done" or (status == "running" and now != worker):
            blow.waits.append(time.monotonic() - began)
            return
        time.sleep(0.02)


def one_of_two_killed(blow: Blow) -> None:
    """kill -9 of one of the two workers that do the run, several times over."""
    for number in range(SHARD_KILLS):
        blow.sleep_until_some_moment(1.2 / SHARD_KILLS)
        held = _a_shard(blow)
        if held is None:
            blow.problems.append(f"it was over after {number} of {SHARD_KILLS} kills")
            return
        shard, worker = held
        blow.runs.stack.signal_worker(pid_of({"worker": worker}), signal.SIGKILL)
        blow.times += 1
        _until_another_has(blow, shard, worker)
    _note_workers(blow)


def one_of_two_frozen(blow: Blow) -> None:
    """SIGSTOP of one of them for longer than its lease, then SIGCONT: its shard is another's."""
    for _ in range(2):
        blow.sleep_until_some_moment(0.3)
        held = _a_shard(blow)
        if held is None:
            blow.problems.append(f"it was over after {blow.times} of 2 times")
            return
        shard, worker = held
        pid = pid_of({"worker": worker})
        blow.runs.stack.signal_worker(pid, signal.SIGSTOP)
        blow.times += 1
        began = time.monotonic()
        _until_another_has(blow, shard, worker)
        time.sleep(max(0.0, FROZEN_SECONDS - (time.monotonic() - began)))
        blow.runs.stack.signal_worker(pid, signal.SIGCONT)


def worker_of_a_reference_pass_killed(blow: Blow) -> None:
    """kill -9, three times, of a worker that has a shard of a training run's reference pass: of the
    one that trains, or its helper."""
    for number in range(3):
        blow.sleep_until_some_moment(0.2)
        held = _a_shard(blow)
        if held is None:
            blow.problems.append(f"it was over after {number} of 3 kills")
            return
        shard, worker = held
        trains = blow.runs.row(blow.run_id)["worker"] == worker
        blow.notes.append("the one that trains" if trains else "a helper")
        blow.runs.stack.signal_worker(pid_of({"worker": worker}), signal.SIGKILL)
        blow.times += 1
        _until_another_has(blow, shard, worker)
    _note_workers(blow)


def _note_workers(blow: Blow) -> None:
    query = "SELECT count(*), count(DISTINCT worker) FROM run_shards WHERE run_id = %s"
    [(shards, workers)] = blow.runs.stack.query(query, blow.run_id)
    blow.notes.append(f"{shards} shards, by {workers} workers so far")


def worker_asked_to_stop(blow: Blow) -> None:
    """SIGTERM: the worker hands its run back, and the other one takes it."""
    for _ in range(3):
        row = blow.runs.wait_for_worker(blow.run_id, attempts=1)
        blow.sleep_until_some_moment(0.4)
        row = blow.runs.row(blow.run_id)
        if row["status"] != "running":
            blow.problems.append(f"it was over after {blow.times} signals")
            return
        blow.runs.stack.signal_worker(pid_of(row), signal.SIGTERM)
        blow.times += 1
        began = time.monotonic()
        while (now := blow.runs.row(blow.run_id))["worker"] == row["worker"]:
            blow.runs.stack.tend_workers()
            if now["status"] in FINAL:
                return
            time.sleep(0.02)
        blow.waits.append(time.monotonic() - began)


def worker_frozen(blow: Blow) -> None:
    """SIGSTOP for longer than its lease, then SIGCONT, while another worker has its run."""
    blow.runs.wait_for_worker(blow.run_id, attempts=1)
    blow.sleep_until_some_moment(0.5)
    row = blow.runs.row(blow.run_id)
    pid = pid_of(row)
    blow.runs.stack.signal_worker(pid, signal.SIGSTOP)
    blow.times += 1
    began = time.monotonic()
    taken = blow.runs.wait_for_worker(blow.run_id, attempts=row["attempts"] + 1)
    blow.waits.append(time.monotonic() - began)
    time.sleep(max(0.0, FROZEN_SECONDS - (time.monotonic() - began)) + blow.draw.uniform(0, 2))
    blow.runs.stack.signal_worker(pid, signal.SIGCONT)
    if taken["status"] in FINAL:
        blow.problems.append("it was over before the frozen worker woke up")


def postgres_killed(blow: Blow) -> None:
    """kill -9 of the server, twice; its parent starts it again."""
    blow.runs.wait_for_worker(blow.run_id, attempts=1)
    for _ in range(2):
        blow.sleep_until_some_moment(0.4)
        row = blow.runs.row(blow.run_id)
        blow.runs.stack.kill_postgres()
        blow.times += 1
        blow.until_it_goes_on(row["progress_done"])


def postgres_away(blow: Blow) -> None:
    """Stopped, and started again twenty seconds later."""
    blow.runs.wait_for_worker(blow.run_id, attempts=1)
    blow.sleep_until_some_moment(0.4)
    row = blow.runs.row(blow.run_id)
    with blow.runs.stack.without_postgres():
        blow.times += 1
        time.sleep(AWAY_SECONDS)
    blow.until_it_goes_on(row["progress_done"])


def valkey_wiped_and_killed(blow: Blow) -> None:
    """FLUSHALL, then kill -9; and runs that are queued meanwhile are done all the same."""
    blow.runs.wait_for_worker(blow.run_id, attempts=1)
    queued = []
    for harm in (blow.runs.stack.wipe_valkey, blow.runs.stack.kill_valkey):
        blow.sleep_until_some_moment(0.3)
        row = blow.runs.row(blow.run_id)
        harm()
        queued.append(blow.runs.start("short scoring"))
        blow.times += 1
        blow.until_it_goes_on(row["progress_done"])
    began = time.monotonic()
    ended = [blow.runs.wait(run_id)["status"] for run_id in queued]
    blow.notes.append(
        f"runs queued meanwhile {', '.join(ended)} within {time.monotonic() - began:.0f} s"
    )
    if set(ended) != {"succeeded"}:
        blow.problems.append(f"runs {queued}, queued while the broker was away, {ended}")


def web_killed(blow: Blow) -> None:
    """kill -9 of the web server, whose pages then have to come back."""
    blow.runs.wait_for_worker(blow.run_id, attempts=1)
    for _ in range(2):
        blow.sleep_until_some_moment(0.3)
        blow.runs.stack.kill_web()
        blow.times += 1
        began = time.monotonic()
        blow.runs.stack.wait_until_ready()
        blow.waits.append(time.monotonic() - began)


def disk_full(blow: Blow) -> None:
    """No room for a checkpoint: the run fails and says why; with room again it is resumed."""
    blow.runs.wait_for_worker(blow.run_id, attempts=1)
    blow.sleep_until_some_moment(0.6)
    pid = pid_of(blow.runs.row(blow.run_id))
    checkpoint = blow.runs.stack.folder / f"runs/{blow.run_id}/checkpoint/state.safetensors"
    while not checkpoint.exists():
        time.sleep(0.01)
    blow.runs.stack.limit_files(pid, checkpoint.stat().st_size // 2)
    blow.times += 1
    row = blow.runs.wait(blow.run_id)
    blow.runs.stack.limit_files(pid, None)
    message = (row["error"] or {}).get("message", "")
    if row["status"] != "failed" or "no room for a checkpoint" not in message:
        blow.problems.append(f"it {row['status']}, saying {message!r}")
        return
    blow.notes.append("it said that the disk was full")
    began = time.monotonic()
    blow.runs.resume(blow.run_id)
    blow.until_it_goes_on(row["progress_done"])
    blow.waits[-1] = time.monotonic() - began


RESTARTED = Patience(p95=30, worst=60, small=60)
"""Where the web server itself, or what it needs, is away for a while."""

ON_SEATS = WorkerKind(seats=seats.SEATS, count=seats.SEATS + 1)

FAULTS = {
    "kill-training": Fault("worker killed (-9), training", "long training", worker_killed),
    "kill-scoring": Fault("one of two killed (-9), scoring", "scoring", one_of_two_killed),
    "freeze-scoring": Fault(
        "one of two frozen beyond its lease, scoring", "scoring", one_of_two_frozen
    ),
    "kill-reference": Fault(
        "one of two killed (-9), reference pass",
        "reference pass",
        worker_of_a_reference_pass_killed,
    ),
    "kill-loading": Fault(
        "worker killed (-9), dequantizing and loading",
        "training a GGUF",
        loading.killed,
        before=loading.anew,
    ),
    "kill-rank": Fault(
        "one of two ranks killed (-9)",
        "training on two ranks",
        rank_killed,
        workers=WorkerKind(gpus=2),
    ),
    "kill-seat": Fault(
        "worker on the first seat killed (-9)",
        "training on two seats",
        seats.first_seat_killed,
        workers=ON_SEATS,
    ),
    "freeze-seat": Fault(
        "worker on a further seat frozen beyond its lease",
        "training on two seats",
        seats.further_seat_frozen,
        workers=ON_SEATS,
    ),
    "stop": Fault("worker asked to stop (TERM)", "training", worker_asked_to_stop),
    "freeze": Fault("worker frozen beyond its lease", "training", worker_frozen),
    "template": Fault(
        "chat template without an end, at each worker",
        "training",
        loading.template_wedged,
        before=loading.wedged,
    ),
    "postgres-kill": Fault(
        "PostgreSQL killed (-9)", "training", postgres_killed, watched=True, others=RESTARTED
    ),
    "postgres-away": Fault(
        "PostgreSQL away for 20 s",
        "training",
        postgres_away,
        watched=True,
        page_is_told=True,
        others=RESTARTED,
    ),
    "valkey": Fault(
        "Valkey wiped, then killed",
        "training",
        valkey_wiped_and_killed,
        watched=True,
        others=RESTARTED,
    ),
    "web": Fault("web server killed (-9)", "training", web_killed, watched=True, others=RESTARTED),
    "slow-readers": Fault(
        "readers that are slow, or never read",
        "long training",
        visitors.slow_readers,
        watched=True,
    ),
    "strangers": Fault(
        "strangers flood it",
        "long training",
        visitors.strangers,
        watched=True,
    ),
    "pairs": Fault("200,000 pairs", "long training", pairs.many_pairs, watched=True),
    "disk": Fault("disk full at a checkpoint", "training", disk_full),
}
