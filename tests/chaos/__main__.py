"""`make chaos`: real processes are killed, stopped and starved in the middle of runs.

Every number that a disturbed run stored is compared, bit for bit, with a run of the same
configuration that was left alone. Meanwhile somebody else asks for the health, a page and a small
call all the time, and has a small run queued behind. Ends with status 1 where a number is lost,
doubled or different, where a run did not end by itself, or where others were held up for longer
than the fault may. The moments are random, drawn from a seed that is printed.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.chaos.blow import Blow, Fault, Patience
from tests.chaos.bystander import Bystander, Waited
from tests.chaos.comparing import Difference, compare
from tests.chaos.faults import FAULTS, RESTARTED
from tests.chaos.stack import running
from tests.chaos.studies import (
    compare_studies,
    kill_on_the_way,
    runs_of,
    start_study,
    wait_for_study,
)
from tests.chaos.watching import Watcher
from tests.chaos.workload import SMALL, Runs
from tests.support import VIEWER_TOKEN

COLUMNS = (
    *("fault", "times", "what happened", "seconds until it went on"),
    *("others waited, s: 95 % / most", "a small run of theirs, s", "lost / doubled", "different"),
)
HEADER = f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"
WATCHER_SECONDS = 30.0
STUDY = "study"
STUDY_FAULT = Fault(
    "workers and web server killed (-9) in a study",
    STUDY,
    kill_on_the_way,
    # Its small run waits behind the study's.
    others=Patience(RESTARTED.p95, RESTARTED.worst, small=600),
)


@dataclass(frozen=True, slots=True)
class Result:
    fault: Fault
    blow: Blow
    difference: Difference
    others: Waited
    small_seconds: float
    seconds: float

    @property
    def is_good(self) -> bool:
        found = self.difference
        return not (self.blow.problems or found.lost or found.doubled or found.different)

    def line(self) -> str:
        waits = self.blow.waits
        stood = f"{sum(waits) / len(waits):.1f} (most {max(waits):.1f})" if waits else "-"
        what = "; ".join([*self.blow.problems, *self.blow.notes])
        found = self.difference
        return (
            f"| {self.fault.title} | {self.blow.times:,} | {what} | {stood} "
            f"| {self.others.words()} | {self.small_seconds:.1f} "
            f"| {found.lost} / {found.doubled} | {found.different} |"
        )


def befall(runs: Runs, fault: Fault, draw: random.Random) -> Result:
    """Start a run, let the fault strike, let the run end, and compare."""
    runs.stack.have_workers(fault.workers)
    calm = undisturbed(runs, fault.run)
    began = time.monotonic()
    with bystander(runs) as other:
        ahead = fault.before(runs) if fault.before is not None else []
        blow = Blow(runs, runs.start(fault.run), draw, runs.calm_seconds[fault.run], ahead)
        blow.queue_small()
        watcher = Watcher(runs.stack.url, blow.run_id) if fault.watched else None
        fault.strike(blow)
        row = runs.wait(blow.run_id)
        waited = other.end()
    blow.notes.insert(0, f"{row['status']} at try {row['attempts']}")
    if row["status"] != "succeeded":
        blow.problems.append(f"it {row['status']}: {(row['error'] or {}).get('message')}")
    if watcher is not None:
        _check_what_was_watched(runs, fault, blow, watcher)
    difference = compare(runs.stack, calm, blow.run_id)
    return _result(fault, blow, difference, waited, began)


def undisturbed(runs: Runs, name: str) -> int:
    """A run that nothing happens to, and what others waited for beside it."""
    if name not in runs.calm:
        with bystander(runs) as other:
            runs.undisturbed(name)
            runs.calm_others[name] = other.end()
    return runs.calm[name]


@contextmanager
def bystander(runs: Runs) -> Iterator[Bystander]:
    found = Bystander(runs.stack.url, VIEWER_TOKEN)
    try:
        yield found
    finally:
        found.kill()


def _result(
    fault: Fault, blow: Blow, difference: Difference, waited: Waited, began: float
) -> Result:
    """Also waits for the small runs, and judges what others waited."""
    small_seconds = 0.0
    for run_id in blow.small:
        row = blow.runs.wait(run_id)
        if row["status"] != "succeeded":
            blow.problems.append(f"a small run {row['status']}")
            continue
        small_seconds = max(small_seconds, blow.runs.seconds(run_id, since="created_at"))
        other = compare(blow.runs.stack, blow.runs.undisturbed(SMALL), run_id)
        blow.expect(
            not (other.lost or other.doubled or other.different), f"a small run differs: {other}"
        )
    for what, seconds, most in (
        ("95 of 100 asks of others", waited.p95, fault.others.p95),
        ("an ask of others", waited.worst, fault.others.worst),
        ("a small run of others", small_seconds, fault.others.small),
    ):
        blow.expect(seconds <= most, f"{what} took up to {seconds:.1f} s, not {most:g}")
    took = time.monotonic() - began
    return Result(fault, blow, difference, waited, small_seconds, took)


def undisturbed_study(runs: Runs) -> tuple[int, float]:
    """Its id, and the seconds that it took."""
    began, calm = time.monotonic(), start_study(runs)
    status = wait_for_study(runs, calm)
    assert status == "succeeded", status
    seconds = time.monotonic() - began
    runs.calm_seconds[STUDY] = seconds
    return calm, seconds


def befall_study(runs: Runs, draw: random.Random) -> Result:
    """Start a study, kill what carries it, let it end by itself, and compare it with a calm one."""
    runs.stack.have_workers(STUDY_FAULT.workers)
    calm, seconds = undisturbed_study(runs)
    began = time.monotonic()
    with bystander(runs) as other:
        study_id = start_study(runs)
        blow = Blow(runs, study_id, draw, seconds)
        blow.queue_small()
        STUDY_FAULT.strike(blow)
        status = wait_for_study(runs, study_id)
        runs.stack.wait_until_ready()
        waited = other.end()
    found = runs_of(runs, study_id)
    tries = sum(run.attempts for run in found)
    blow.notes.append(f"{status}, {len(found)} runs in {tries} tries")
    if status != "succeeded":
        blow.problems.append(f"it {status}")
    difference, problems = compare_studies(runs, calm, study_id)
    blow.problems += problems
    return _result(STUDY_FAULT, blow, difference, waited, began)


def _check_what_was_watched(runs: Runs, fault: Fault, blow: Blow, watcher: Watcher) -> None:
    """Each step once, none missing, as it is stored."""
    if not watcher.wait(WATCHER_SECONDS):
        blow.problems.append("the live page did not hear of the end")
    stored: set[tuple[object, ...]] = {
        ("metric", step) for (step,) in _steps(runs, blow.run_id, "metrics", "step")
    }
    stored |= {("probe", *key) for key in _steps(runs, blow.run_id, "probe_steps", "pair", "step")}
    missed = stored - watcher.seen.keys()
    twice = [key for key, times in watcher.seen.items() if times > 1 or key not in stored]
    blow.notes.append(
        f"live page: {len(stored)} events, {len(missed)} missed, {len(twice)} twice, "
        f"{watcher.connections} connections, longest silence {watcher.longest_silence:.1f} s"
    )
    if fault.page_is_told and not watcher.was_told:
        blow.problems.append("the live page was not told that the database was away")
    if missed or twice:
        blow.problems.append(f"the live page missed {len(missed)} and had {len(twice)} twice")


def _steps(runs: Runs, run_id: int, table: str, *columns: str) -> list[tuple[int, ...]]:
    return runs.stack.query(f"SELECT {', '.join(columns)} FROM {table} WHERE run_id = %s", run_id)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--only", choices=[*FAULTS, STUDY], action="append", help="this fault; may be given again"
    )
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}", flush=True)
    began, results = time.monotonic(), []
    with running() as stack:
        runs = Runs(stack)
        names = wanted.only or [*FAULTS, STUDY]
        undisturbed(runs, SMALL)
        for name in names:
            # Of its own, so that a fault alone has the moments that it had among all.
            draw = random.Random(f"{wanted.seed} {name}")
            is_study = name == STUDY
            result = befall_study(runs, draw) if is_study else befall(runs, FAULTS[name], draw)
            results.append(result)
            print(f"{name}: {result.seconds:.0f} s, {result.line()}", flush=True)
            for example in result.difference.examples:
                print(f"    {example}", flush=True)
            if not result.is_good:
                print(stack.words(), flush=True)
    print(HEADER)
    for result in results:
        print(result.line())
    bad = [result.fault.title for result in results if not result.is_good]
    calm = "; ".join(
        f"{name} {seconds:.0f} s"
        + (f" (others: {runs.calm_others[name].words()})" if name in runs.calm_others else "")
        for name, seconds in runs.calm_seconds.items()
    )
    print(f"\nUndisturbed: {calm}.")
    print(f"Seed {wanted.seed}, {(time.monotonic() - began) / 60:.1f} minutes: ", end="")
    print(f"wrong under {', '.join(bad)}" if bad else "nothing lost, doubled or different")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
