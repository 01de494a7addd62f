"""How much can be recorded: `python -m tests.benchmarks.recording [SECONDS]`.

Ours and a public tracker's, MLflow's, each into a database of its own on the same PostgreSQL, one
after the other.
"""

import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import text

from app.core.database import transaction
from tests.benchmarks.made_up import (
    METRIC_VALUES,
    PROBE_VALUES,
    PROBES,
    hand_over_probes,
    hand_over_step,
)
from tests.benchmarks.serving import claimed_run, recording_to, serving
from tests.support import scratch_database
from worker.recorder import Recorder

SECONDS = 10.0
VALUES_A_CALL = 1000
"""MLflow takes no more at once."""

COLUMNS = ("recorded by", "steps a second", "rows a second", "values a second")
ABOUT = f"""One process hands over training steps without a pause for {SECONDS:.0f} s and waits
until PostgreSQL has them all on its disk. A step is {METRIC_VALUES} values of the batch and
{PROBES} probes of {PROBE_VALUES} values each. Chesboard stores besides two ledgers of each probe,
which a tracker of single numbers has no place for, and announces each batch to live pages. MLflow
is its own client over its SQL store, without a server between; a row of it is one value."""


def rows(seconds: float = SECONDS) -> Iterator[tuple[str, ...]]:
    with serving(durable=True) as (services, _), recording_to(services):
        yield _row("Chesboard's recorder, ledgers included", _VALUES, _ours(seconds))
        yield from _their_rows(seconds, services.database_url)


def _their_rows(seconds: float, server_url: str) -> Iterator[tuple[str, ...]]:
    for values, steps, what in (
        (_VALUES, 1, "each step, without ledgers"),
        (METRIC_VALUES, VALUES_A_CALL // METRIC_VALUES, "many steps a call, without probes"),
    ):
        # MLflow remembers within a process which databases it has set up.
        with scratch_database(server_url, f"mlflow_{values}") as url:
            found = _theirs(seconds, url, values, steps)
            yield _row(f"MLflow's log_batch, {what}", values, found)


_VALUES = METRIC_VALUES + PROBES * PROBE_VALUES


def _row(who: str, values: int, found: tuple[int, int, float]) -> tuple[str, ...]:
    steps, stored, seconds = found
    return (
        who,
        f"{steps / seconds:,.0f}",
        f"{stored / seconds:,.0f}",
        f"{steps * values / seconds:,.0f}",
    )


def _ours(seconds: float) -> tuple[int, int, float]:
    """Steps, rows in the database, and seconds until they were there."""
    claim = claimed_run()
    began, step = time.perf_counter(), 0
    with Recorder(claim.run_id, claim.token) as recorder:
        hand_over_probes(recorder)
        while time.perf_counter() < began + seconds:
            step += 1
            hand_over_step(recorder, step, 10**6, probes=True)
    took = time.perf_counter() - began
    with transaction() as session:
        counts = "SELECT (SELECT count(*) FROM metrics) + (SELECT count(*) FROM probe_steps)"
        stored = session.execute(text(counts)).scalar_one()
    assert stored == step * (1 + PROBES)
    return step, stored, took


def _theirs(
    seconds: float, database_url: str, values: int, steps_a_call: int
) -> tuple[int, int, float]:
    import mlflow
    from mlflow.entities import Metric

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    client: Any = mlflow.MlflowClient(tracking_uri=database_url)
    experiment = client.create_experiment("bench", artifact_location="/nowhere")
    run = client.create_run(experiment).info.run_id
    names = [f"value {number}" for number in range(values)]
    began, step = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        now = int(time.time() * 1000)
        steps = range(step + 1, step + steps_a_call + 1)
        client.log_batch(run, [Metric(name, 0.5, now, each) for each in steps for name in names])
        step += steps_a_call
    took = time.perf_counter() - began
    assert len(client.get_metric_history(run, names[0])) == step
    return step, step * values, took


if __name__ == "__main__":
    print(*rows(float(sys.argv[1]) if sys.argv[1:] else SECONDS), sep="\n")
