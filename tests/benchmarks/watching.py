"""A live run under the eyes of many: `python -m tests.benchmarks.watching [WATCHERS...]`."""

import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter

from tests.benchmarks.crowd import RECONNECT_EVERY
from tests.benchmarks.made_up import PROBES, hand_over_probes, hand_over_step
from tests.benchmarks.serving import claimed_run, finish, recording_to, serving
from worker.recording import Recorder

STEPS = 240
PROBE_EVERY = 10
PAUSE_SECONDS = (0.06, 0.14)
"""Steps come at uneven times, so that nothing falls into step with them."""
WARM_UP = 10

COLUMNS = ("watchers", "steps", "p50 ms", "p95 ms", "events missed", "told again")
ABOUT = f"""From the end of an optimiser step to its event at each watcher: recorder, PostgreSQL,
Redis, web process, Server-Sent Events. About ten steps a second, {PROBES} probes every
{PROBE_EVERY} steps. One watcher in {RECONNECT_EVERY} loses its connection once and comes back, as a
browser does; only to it an event may be told again, which a page puts in its place. The watchers
share the machine with the servers."""


def rows(crowds: tuple[int, ...] = (1, 200)) -> list[tuple[str, ...]]:
    return [_row(watchers) for watchers in crowds]


def _row(watchers: int) -> tuple[str, ...]:
    ended, seen = measure(watchers)
    counts = [Counter(step for step, _ in one) for one in seen]
    missed = sum(len(ended.keys() - count.keys()) for count in counts)
    again = sum(count.total() - len(count) for count in counts)
    late = [1000 * (when - ended[step]) for one in seen for step, when in one if step > WARM_UP]
    cuts = statistics.quantiles(late, n=100)
    return (
        f"{watchers:,}", f"{STEPS:,}", f"{cuts[49]:.0f}", f"{cuts[94]:.0f}",
        f"{missed} of {watchers * STEPS:,}", str(again),
    )  # fmt: skip


def measure(watchers: int) -> tuple[dict[int, float], list[list[tuple[int, float]]]]:
    """When each step had ended, and what each watcher saw when; seconds since the epoch."""
    with serving() as (services, address), recording_to(services):
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
