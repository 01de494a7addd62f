"""How fast pages open over a dataset of 500,000 scored pairs, served by a real web process.

    python -m tests.benchmarks.at_size [--pairs 500000] [--rounds 3]

The pairs are made up, with texts as long as a short answer's; a score run and a training run have
measured all of them, a twentieth is flagged and a tenth is reviewed.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
from sqlalchemy import make_url

from app.core.database import transaction
from app.store.score_summaries import keep_summary
from chesboard.configs import ScoreConfig, TrainConfig
from tests.benchmarks.serving import client_of, recording_to, serving

LIMIT = 1.0
"""Seconds at the server that a page may take."""

COLUMNS = ("pairs", "page or call", "milliseconds", "kB")
ABOUT = f"""Each page and each call that pages make, over a dataset of so many scored pairs, each
the median of a few (none is kept by the server). A page may take {LIMIT:.0f} s; what
takes longer is marked. The two exports are whole, with the time to their first byte beside it."""

SELECTION = {
    "measures": [{"score_run": 1, "measure": "ln_ches", "keep": "lowest", "fraction": 0.05}],
    "exclude_flagged": True,
}
PAGES = (
    "/",
    "/datasets",
    "/datasets/1",
    "/datasets/1/review",
    "/datasets/1/new?kind=train",
    "/datasets/1/doctor",
    "/runs",
    "/runs/1",
    "/runs/2",
    "/compare?runs=2",
    "/api/v1/datasets/1",
    "/api/v1/datasets/1/pairs?offset=0&limit=20",
    "/api/v1/datasets/1/pairs?offset={late}&limit=20",
    "/api/v1/datasets/1/reviews?limit=20",
    "/api/v1/datasets/1/reviews?limit=20&sort=-ln_ches&score_run=1",
    "/api/v1/datasets/1/reviews?verdict=none&flagged=false&measure=ches&at_least=0&sort=-ches",
    "/api/v1/datasets/1/reviews/order?sort=-ln_ches",
    "/api/v1/datasets/1/reviews/progress",
    "/api/v1/runs/1/scores/summary",
    "/api/v1/runs/1/scores?sort=-ches&limit=25&with_text=true",
    "/api/v1/runs/1/scores?sort=-ches&limit=25&offset={late}&with_text=true",
    "/api/v1/runs/1/scores?sort=pair&limit=1000&offset=0",
    "/api/v1/runs/1/forecast?objective=dpo",
    "/api/v1/runs/1/displacements",
    "/api/v1/runs/2/displacement?score_run=1&measure=ches&points=5000",
    "/api/v1/runs/2/forecast",
    "/api/v1/runs/2/pairs?limit=100",
)
EXPORTS = (
    "/api/v1/datasets/1/export?format=jsonl",
    "/api/v1/runs/1/scores?format=csv&with_text=true",
)


def rows(pairs: int = 500_000, rounds: int = 3) -> Iterator[tuple[str, ...]]:
    with serving() as (services, address):
        fill(make_url(services.database_url).render_as_string(False), pairs)
        with recording_to(services), transaction() as session:
            keep_summary(session, 1)  # as a worker does when the run has succeeded
        with client_of(address) as client:
            for what, seconds, size, note in measure(client, pairs, rounds):
                slow = " (too long)" if not note and seconds > LIMIT else ""
                yield f"{pairs:,}", what, f"{1000 * seconds:.0f}{note or slow}", f"{size:.0f}"


def measure(
    client: httpx.Client, pairs: int, rounds: int
) -> Iterator[tuple[str, float, float, str]]:
    for template in PAGES:
        path = template.format(late=pairs - 100)
        taken = []
        for _ in range(rounds):
            started = time.perf_counter()
            answer = client.get(path)
            taken.append(time.perf_counter() - started)
            assert answer.status_code == 200, f"{path}: {answer.text[:500]}"
        yield template, statistics.median(taken), len(answer.content) / 1000, ""
    started = time.perf_counter()
    answer = client.post("/api/v1/datasets/1/selection", json=SELECTION)
    assert answer.status_code == 200, answer.text
    yield "POST /api/v1/datasets/1/selection", time.perf_counter() - started, 1, ""
    for path in EXPORTS:
        started = time.perf_counter()
        size, first = 0, 0.0
        with client.stream("GET", path) as stream:
            assert stream.status_code == 200
            for piece in stream.iter_raw():
                first = first or time.perf_counter() - started
                size += len(piece)
        note = f" in all, {1000 * first:.0f} to the first byte"
        yield path, time.perf_counter() - started, size / 1000, note


def fill(url: str, pairs: int) -> None:
    named: dict[str, Any] = {
        "pairs": pairs,
        "score": ScoreConfig(model="tiny").model_dump_json(),
        "train": TrainConfig(model="tiny").model_dump_json(),
    }
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT setseed(0.5)")
        for statement in STATEMENTS:
            connection.execute(statement, named)
        # As autovacuum does once so much has been written.
        connection.execute("VACUUM ANALYZE")


STATEMENTS = (
    """
    INSERT INTO datasets (name, format, source_filename, source_sha256, source_bytes,
        pairs, rejected, errors, statistics)
    VALUES ('large', 'text', 'large.jsonl', '0', 1, %(pairs)s, 0, '[]', '{}')
    """,
    """
    INSERT INTO pairs (dataset_id, pair, prompt, preferred, dispreferred, meta)
    SELECT 1, pair, to_jsonb('Is ' || pair || ' a word? ' || repeat(md5(pair::text), 4)),
        repeat('Yes, a word. ', 12) || pair, repeat('No, not a word. ', 12) || pair,
        jsonb_build_object('row', pair + 1)
    FROM generate_series(0, %(pairs)s - 1) AS pair
    """,
    """
    INSERT INTO runs (kind, name, dataset_id, status, config, revision) VALUES
        ('score', 'scores', 1, 'succeeded', %(score)s, 1),
        ('train', 'training', 1, 'succeeded', %(train)s, 1)
    """,
    """
    INSERT INTO scores (run_id, pair, ches, ln_ches, last_hidden_inner_product,
        normalized_edit_distance, preferred_logprob, dispreferred_logprob, implicit_gap,
        length_gap, head_shift, head_cosine, preferred_grad_norm, dispreferred_grad_norm,
        preferred_tokens, dispreferred_tokens, prompt_tokens, cut_tokens, preferred_ends,
        dispreferred_ends)
    SELECT 1, pair, 100 * random() - 50, random() - 0.5, random(), random(), -40 * random(),
        -40 * random(), random() - 0.5, floor(20 * random()) - 10, 10 * random() - 5, random(),
        5 * random(), 5 * random(), 40, 44, 60, 0, array_fill(3, ARRAY[40]),
        array_fill(3, ARRAY[44])
    FROM generate_series(0, %(pairs)s - 1) AS pair
    """,
    """
    INSERT INTO reference_logprobs (run_id, pair, preferred, dispreferred, final_preferred,
        final_dispreferred)
    SELECT 2, pair, -40 * random(), -40 * random(), -40 * random(), -40 * random()
    FROM generate_series(0, %(pairs)s - 1) AS pair
    """,
    """
    INSERT INTO run_selections (run_id, pairs, versions, dataset_pairs)
    SELECT 2, array_agg(pair), array_agg(1), %(pairs)s
    FROM generate_series(0, %(pairs)s - 1) AS pair
    """,
    """
    INSERT INTO flags (dataset_id, pair, score_run, measure, value)
    SELECT 1, pair, 1, 'ches', 1.0 FROM generate_series(0, %(pairs)s - 1, 20) AS pair
    """,
    """
    INSERT INTO reviews (dataset_id, pair, version, verdict)
    SELECT 1, pair, 1, 'keep' FROM generate_series(0, %(pairs)s - 1, 10) AS pair
    """,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for row in rows(arguments.pairs, arguments.rounds):
        print(*row, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
