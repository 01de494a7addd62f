"""How fast a long run opens: 20,000 steps with 32 probes, served by a real web process.

    python -m tests.benchmarks.long_run [--steps 20000] [--probes 32] [--rounds 5]

The rows are made up, but as large as a run writes them (110 watched tokens, ledgers of ten gainers
and ten losers, two token groups) and in the order in which it writes them, step by step. They
take about 4 GB of disk for a while.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

import psycopg
from sqlalchemy import make_url

from app.local import migrate as migrations
from tests.benchmarks.made_up import LEDGER, RESPONSE_TOKENS, WATCHED
from tests.benchmarks.serving import client_of, serving

LEDGERS = 64
POINTS = 1000


COLUMNS = ("run", "call", "milliseconds", "kB")
ABOUT = f"""The calls that a run's page makes when it opens, each the median of a few, on a server
that was never asked before ({POINTS:,} points a series). Answers are made anew each time: an answer
that was kept takes a few milliseconds, whatever the run."""


def rows(steps: int = 20_000, probes: int = 32, rounds: int = 5) -> Iterator[tuple[str, ...]]:
    with serving() as (services, address):
        url = make_url(services.database_url).render_as_string(False)
        fill(url, steps, probes)
        with client_of(address) as client:
            for what, seconds, size in measure(client, rounds):
                run = f"{steps:,} steps x {probes} probes"
                yield run, what, f"{1000 * seconds:.0f}", f"{size:.0f}" if size else ""


def measure(client: Any, rounds: int) -> Iterator[tuple[str, float, float]]:
    """(what, median seconds, kB) of each call that a run's page makes when it opens, and sums."""
    window = {"points": POINTS}
    calls = {
        "run and verdict": ("/runs/1", {}),
        "probes": ("/runs/1/probes", {}),
        "metrics": ("/runs/1/metrics", window),
        "one probe": ("/runs/1/probes/0", window),
        "bands": ("/runs/1/probes/bands", window),
        "zoom into 500 steps of a probe": (
            "/runs/1/probes/0",
            {**window, "from_step": 10_000, "to_step": 10_500},
        ),
        "ledger": ("/runs/1/probes/0/ledger", {}),
    }
    total = 0.0
    for number, (what, (path, query)) in enumerate(calls.items()):
        taken = []
        for round in range(rounds):
            # A parameter that means nothing keeps the server from knowing the question already.
            anew = {**query, "round": round}
            started = time.perf_counter()
            answer = client.get(f"/api/v1{path}", params=anew)
            taken.append(time.perf_counter() - started)
            assert answer.status_code == 200, answer.text
        seconds = statistics.median(taken)
        if number < 5:
            total += seconds
        yield what, seconds, len(answer.content) / 1000
    yield "the first five, one after the other", total, 0.0


def fill(url: str, steps: int, probes: int) -> None:
    """A succeeded run whose rows are copied in, as large as a worker's."""
    migrations.upgrade(url)
    random.seed(0)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO datasets (name, format, source_filename, source_sha256, source_bytes,
                pairs, rejected, errors, statistics) VALUES ('d', 'text', 'd', '0', 1, 1, 0,
                '[]', '{}')
            """
        )
        connection.execute(
            "INSERT INTO runs (kind, name, dataset_id, status, config, revision) VALUES "
            "('train', 'long', 1, 'succeeded', '{\"objective\": \"dpo\"}', 1)"
        )
        connection.execute("SELECT setseed(0.5)")
        connection.execute(METRICS, {"steps": steps})
        for pair in range(probes):
            connection.execute(PROBE, _probe(pair))
        # A ledger looks alike at each step: a few are made up, and stored again for every row.
        connection.execute(
            "CREATE TEMP TABLE ledgers (number int, gainers jsonb, losers jsonb, recent jsonb)"
        )
        for number in range(LEDGERS):
            connection.execute("INSERT INTO ledgers VALUES (%s, %s, %s, %s)", (number, *_ledger()))
        connection.execute(
            PROBE_STEPS,
            {
                "steps": steps,
                "probes": probes,
                "tokens": RESPONSE_TOKENS,
                "watched": WATCHED,
                "ledgers": LEDGERS,
            },
        )
        # As autovacuum does once a run has written so much.
        connection.execute("VACUUM ANALYZE")


METRICS = """
    INSERT INTO metrics (run_id, step, revision, loss, margin, preferred_logprob,
        dispreferred_logprob, preferred_change, dispreferred_change, displaced_fraction, accuracy,
        grad_norm, learning_rate, tokens_per_second, tokens_seen)
    SELECT 1, step, 1, random(), random(), random(), random(), random(), random(), random(),
        random(), random(), 1e-6, random(), step * 1000
    FROM generate_series(1, %(steps)s) AS step
"""
PROBE = """
    INSERT INTO probes (run_id, pair, prompt, preferred_tokens, dispreferred_tokens,
        fork_position, groups, watched, predicted, positions)
    VALUES (1, %s, 'Is it?', %s, %s, 0, %s, %s, %s, %s)
"""
PROBE_STEPS = """
    INSERT INTO probe_steps (run_id, pair, step, revision, preferred_logprobs,
        dispreferred_logprobs, preferred_change, dispreferred_change, preferred_prob,
        dispreferred_prob, other_prob, group_probs, watched_probs, gainers, losers, rest_change,
        moved_mass, recent, predicted_changes, predicted_ranks, rank_agreement)
    SELECT 1, pair, step, 1, array_fill(drift, ARRAY[%(tokens)s]),
        array_fill(2 * drift, ARRAY[%(tokens)s]), drift, 2 * drift, prob, prob / 2,
        1 - 1.5 * prob, ARRAY[prob / 3, prob / 4],
        array_fill(prob::real, ARRAY[%(watched)s]), gainers, losers, 0, prob, recent,
        array_fill(prob::real, ARRAY[10]), array_fill(7, ARRAY[10]), 0.5
    FROM (
        SELECT step, pair, random() / 2 AS prob,
            -step / 10000.0 * (1 + pair %% 3) + random() / 10 AS drift
        FROM generate_series(0, %(steps)s) AS step, generate_series(0, %(probes)s - 1) AS pair
        OFFSET 0
    ) AS made
    JOIN ledgers ON number = (step + pair) %% %(ledgers)s
    ORDER BY step, pair
"""


def _entry() -> dict[str, Any]:
    value = random.random() / 100
    return {
        "token_id": random.randrange(49152),
        "token": random.choice([" word", "Yes", " never", "ing"]),
        "initial": value,
        "final": 2 * value,
        "change": value,
        "predicted": value / 3,
    }


def _ledger() -> tuple[str, str, str]:
    gainers = [_entry() for _ in range(LEDGER)]
    losers = [_entry() for _ in range(LEDGER)]
    recent = {
        "since_step": 1,
        "gainers": gainers,
        "losers": losers,
        "rest_change": 0.0,
        "moved_mass": 0.1,
    }
    return json.dumps(gainers), json.dumps(losers), json.dumps(recent)


def _probe(pair: int) -> tuple[Any, ...]:
    watched = [
        {"token_id": n, "token": f" t{n}", "initial": 0.01, "predicted": 0.001}
        for n in range(WATCHED)
    ]
    predicted = [{key: one[key] for key in ("token_id", "token", "predicted")} for one in watched]
    texts = [" token"] * RESPONSE_TOKENS
    groups = [{"name": "affirmative", "tokens": ["Yes"]}, {"name": "negative", "tokens": ["No"]}]
    positions = {"preferred": [0], "dispreferred": [0]}
    return (pair, *map(json.dumps, (texts, texts, groups, watched, predicted[:10], positions)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--probes", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(*rows(arguments.steps, arguments.probes, arguments.rounds), sep="\n")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
