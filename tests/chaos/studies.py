"""A study whose workers and web server are killed on the way, beside one that is left alone."""

import signal
import time
from collections import Counter
from typing import Any, NamedTuple

import httpx

from tests.chaos.blow import Blow
from tests.chaos.comparing import Difference, compare
from tests.chaos.workload import FINAL, Runs, pid_of

PLAN = {
    "kind": "remedy_bench",
    "model": "tiny",
    # With the plain one three arms; one of them waits for a score run.
    "arms": ["ipo", "keep_50"],
    "seeds": [0, 1],
    "steps": 120,
    "selection": {"limit": 20},
    "watch": 4,
    "watch_others": 2,
    "config": {"learning_rate": 1e-3, "batch_size": 4, "checkpoint_every": 10},
}
BLOWS = (("worker",), ("web",), ("web", "worker"))
END_SECONDS = 1200.0
BACK_SECONDS = 400.0


class PlacedRun(NamedTuple):
    """A run of a study. place: cell, seed and role."""

    id: int
    place: tuple[str, int, str]
    status: str
    worker: str | None
    progress_done: int
    attempts: int


def start_study(runs: Runs) -> int:
    answer = runs.client.post("/studies", json={**PLAN, "dataset_id": runs.datasets["few"]})
    answer.raise_for_status()
    return int(answer.json()["id"])


def runs_of(runs: Runs, study_id: int) -> list[PlacedRun]:
    rows = runs.stack.query(
        "SELECT runs.id, cell, seed, role, status, worker, progress_done, attempts FROM runs "
        "JOIN study_runs ON study_runs.run_id = runs.id WHERE study_id = %s ORDER BY runs.id",
        study_id,
    )
    return [PlacedRun(row[0], row[1:4], *row[4:]) for row in rows]


def wait_for_study(runs: Runs, study_id: int) -> str:
    """Its status once it has ended; nothing is done for it but to start workers again."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        runs.stack.tend_workers()
        query = "SELECT status, error FROM studies WHERE id = %s"
        [(status, error)] = runs.stack.query(query, study_id)
        if status in FINAL:
            return str(status if error is None else f"{status}: {error}")
        if time.monotonic() > deadline:
            found = [(run.place, run.status) for run in runs_of(runs, study_id)]
            raise AssertionError(f"study {study_id} did not end: {found}\n{runs.stack.words()}")
        time.sleep(0.1)


def kill_on_the_way(blow: Blow) -> None:
    """kill -9 of a worker in the middle of a run, of the web server, and of both at once. The
    blow's run is the study."""
    for victims in BLOWS:
        run = _wait_until_one_runs(blow)
        if run is None:
            blow.problems.append(f"the study was over after {blow.times} kills")
            return
        if "web" in victims:
            blow.runs.stack.kill_web()
        if "worker" in victims:
            blow.runs.stack.signal_worker(pid_of({"worker": run.worker}), signal.SIGKILL)
        blow.times += len(victims)
        began = time.monotonic()
        while not _goes_on(blow, victims, run):
            blow.runs.stack.tend_workers()
            if time.monotonic() - began > BACK_SECONDS:
                raise AssertionError(f"it does not go on\n{blow.runs.stack.words()}")
            time.sleep(0.05)
        blow.waits.append(time.monotonic() - began)


def _goes_on(blow: Blow, victims: tuple[str, ...], run: PlacedRun) -> bool:
    """Whether another worker has the run whose worker was killed, and pages are served again."""
    if "web" in victims:
        try:
            blow.runs.client.get(f"/studies/{blow.run_id}").raise_for_status()
        except httpx.HTTPError:
            return False
    [now] = [one for one in runs_of(blow.runs, blow.run_id) if one.id == run.id]
    return "worker" not in victims or now.attempts > run.attempts or now.status in FINAL


def _wait_until_one_runs(blow: Blow) -> PlacedRun | None:
    """A run of the study that trains, at a random moment; None: the study is over."""
    while True:
        blow.runs.stack.tend_workers()
        blow.sleep_until_some_moment(0.05)
        found = runs_of(blow.runs, blow.run_id)
        own = blow.runs.stack.worker_pids()
        training = [
            run
            for run in found
            if (run.status, run.place[2]) == ("running", "train")
            and run.progress_done
            and pid_of({"worker": run.worker}) in own
        ]
        if training:
            return blow.draw.choice(training)
        [(status,)] = blow.runs.stack.query("SELECT status FROM studies WHERE id = %s", blow.run_id)
        if status in FINAL:
            return None


def compare_studies(runs: Runs, calm: int, disturbed: int) -> tuple[Difference, list[str]]:
    """What the disturbed study lacks, has twice or has otherwise, in its runs' numbers; and what
    else is wrong with it, its table above all."""
    expected, found = runs_of(runs, calm), runs_of(runs, disturbed)
    problems = []
    times = Counter(run.place for run in found)
    if times != Counter(run.place for run in expected):
        problems.append(f"its runs are {dict(times)}")
    if bad := [(run.id, run.status) for run in found if run.status != "succeeded"]:
        problems.append(f"runs ended otherwise: {bad}")
    tables = [_result(runs, study) for study in (calm, disturbed)]
    if tables[0] != tables[1]:
        problems.append("its result is another")
    by_place = {run.place: run.id for run in found}
    each = [
        compare(runs.stack, run.id, by_place[run.place])
        for run in expected
        if run.place in by_place
    ]
    whole = Difference(
        sum(one.lost for one in each),
        sum(one.doubled for one in each),
        sum(one.different for one in each),
        tuple(example for one in each for example in one.examples)[:9],
    )
    return whole, problems


def _result(runs: Runs, study_id: int) -> Any:
    """Without the runs' ids."""
    found = runs.client.get(f"/studies/{study_id}")
    found.raise_for_status()
    result = found.json()["result"]
    for table in result["tables"]:
        for cell in table["cells"]:
            for run in cell["runs"]:
                del run["run_id"]
    return result
