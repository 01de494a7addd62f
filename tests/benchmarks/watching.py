"""A live run under the eyes of many: `python -m tests.benchmarks.watching [WATCHERS...]`."""

import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.crowd import RECONNECT_EVERY
from tests.benchmarks.made_up import PROBES, hand_over_probes, hand_over_step
from tests.benchmarks.measuring import WrongFigureError
from tests.benchmarks.serving import claimed_run, finish, recording_to, serving
from worker.recorder import Recorder

STEPS = 240
PROBE_EVERY = 10
PAUSE_SECONDS = (0.06, 0.14)
"""Steps come at uneven times, so that nothing falls into step with them."""
WARM_UP = 10

Event = tuple[int | None, int]
"""A probe's pair, or None for the whole batch; and the step."""

COLUMNS = ("watchers", "steps", "p50 ms", "p95 ms", "events missed", "told again")
ABOUT = f"""From the end of an optimizer step to its event at each watcher: recorder, PostgreSQL,
Redis, web process, Server-Sent Events. About ten steps a second, {PROBES} probes every
{PROBE_EVERY} steps. One watcher in {RECONNECT_EVERY} loses its connection once and comes back, as a
browser does; only to it an event may be told again, which a page puts in its place. Events of
steps and of probes are counted; a missed one, or one that a watcher who stayed is told twice, makes
the benchmark fail. The watchers share the machine with the servers."""


def rows(crowds: tuple[int, ...] = (1, 200)) -> Iterator[tuple[str, ...]]:
    """Raises WrongFigureError: an event was missed, or told again to one who never went away."""
    for watchers in crowds:
        ended, seen = measure(watchers)
        counts = [_counted(one) for one in seen]
        missed = sum(len(EXPECTED - count.keys()) for count in counts)
        again = [count.total() - len(count) for count in counts]
        late = [
            1000 * (when - ended[step])
            for one in seen
            for step, when in one["seen"]
            if step > WARM_UP
        ]
        cuts = statistics.quantiles(late, n=100)
        yield (
            f"{watchers:,}", f"{STEPS:,}", f"{cuts[49]:.0f}", f"{cuts[94]:.0f}",
            f"{missed} of {watchers * len(EXPECTED):,}", str(sum(again)),
        )  # fmt: skip
        stayed = (not one["loses_connection"] for one in seen)
        doubled = sum(itertools.compress(again, stayed))
        if missed or doubled:
            raise WrongFigureError(f"{watchers} watchers: {missed} missed, {doubled} doubled")


EXPECTED: set[Event] = {
    *((None, step) for step in range(1, STEPS + 1)),
    *itertools.product(range(PROBES), range(PROBE_EVERY, STEPS + 1, PROBE_EVERY)),
}


def _counted(one: dict[str, Any]) -> Counter[Event]:
    """How often a watcher was told of each step, and of each probe at each step."""
    told = Counter[Event]((None, step) for step, _ in one["seen"])
    told.update((pair, step) for pair, step in one["probes"])
    return told


def measure(watchers: int) -> tuple[dict[int, float], list[dict[str, Any]]]:
    """When each step had ended, and what each watcher saw when; seconds since the epoch."""
    with serving(durable=True) as (services, address), recording_to(services):
        claim = claimed_run()
        command = [sys.executable, "-m", "tests.benchmarks.crowd", "watch", address]
        with subprocess.Popen(
            [*command, str(claim.run_id), str(watchers)], stdout=subprocess.PIPE, text=True
        ) as crowd:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == "ready\n", "the watchers could not connect"
            with Recorder(claim.run_id, claim.token) as recorder:
                ended = _record(recorder)
            finish(claim)
            return ended, json.loads(crowd.stdout.readline())


def _record(recorder: Recorder) -> dict[int, float]:
    hand_over_probes(recorder)
    ended = {}
    for step in range(1, STEPS + 1):
        time.sleep(random.uniform(*PAUSE_SECONDS))
        ended[step] = time.time()
        hand_over_step(recorder, step, STEPS, probes=step % PROBE_EVERY == 0)
    return ended


if __name__ == "__main__":
    print(*rows(tuple(map(int, sys.argv[1:])) or (1, 200)), sep="\n")
