"""A score run that several workers do at once: `python -m tests.benchmarks.shards [PAIRS [MODEL]]`.

Real workers of one thread each, on a PostgreSQL and a Valkey of their own. What is measured is from
the first claim to the end of the run; the workers have loaded the model before. The model `tiny`
costs next to nothing, so that its speed is that of everything else.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from sqlalchemy import Text, cast, func, select

from app.core.broker import enqueue
from app.core.database import transaction
from app.core.settings import get_settings
from app.local import migrate as migrations
from app.local.embedded import Services, start_services
from app.local.pull import STARTER_MODEL, pull
from app.local.stack import worker_command
from app.store.datasets import Pair
from app.store.runs import FINAL, Run, Worker
from app.store.shards import planning
from app.store.shards.tables import RunShard
from tests import PROJECT_ROOT
from tests.app import factories
from tests.benchmarks.serving import recording_to
from tests.support import (
    embedded_settings,
    eventually,
    kept_models_folder,
    save_tiny_model,
    short_folder,
)

PAIRS = 800
SHARDS = 4
"""Of about half a minute each; those of a run are of about a minute."""
MOST_OVERHEAD = 0.03
CASES = ((1, 1), (1, SHARDS), (2, SHARDS))
"""Workers and shards; the first is a pass over all pairs at once."""
SECONDS = 3600

COLUMNS = ("workers", "shards", "pairs", "seconds", "pairs a second", "of one pass")
ABOUT = f"""A score run of {PAIRS:,} pairs of 20 to 200 tokens under the starter model, by workers
of one thread each: all pairs in one shard, the same cut into {SHARDS}, and those by two workers.
Tokenizing, storing and summarizing are part of it, loading the model is not. Shards may cost one
worker {MOST_OVERHEAD:.0%} of the time of a pass."""


@dataclass(frozen=True)
class Timed:
    workers: int
    shards: int
    pairs: int
    seconds: float
    scored_by: int
    """Workers that did a shard at least."""


def rows(pairs: int = PAIRS, model: str = STARTER_MODEL) -> Iterator[tuple[str, ...]]:
    first: float | None = None
    for workers, shards in CASES:
        found = timed(pairs, workers, shards, model)
        assert found.scored_by == workers
        speed = found.pairs / found.seconds
        first = first or speed
        compared = f"{speed / first:.2f}"
        if workers == 1 and shards > 1:
            overhead = first / speed - 1
            missed = "" if overhead <= MOST_OVERHEAD else ", missed"
            compared += f" ({overhead:+.1%} time; {MOST_OVERHEAD:.0%} at most{missed})"
        yield (
            str(workers),
            str(found.shards),
            f"{pairs:,}",
            f"{found.seconds:.1f}",
            f"{speed:,.1f}",
            compared,
        )


def timed(pairs: int, workers: int, shards: int, model: str) -> Timed:
    with short_folder() as folder:
        models = kept_models_folder()
        if model == STARTER_MODEL:
            pull(STARTER_MODEL, models)
        else:
            models = folder / "models"
            save_tiny_model(models / model)
        services = start_services(embedded_settings(folder), durable=True)
        try:
            migrations.upgrade(services.database_url)
            with recording_to(services), _working(services, folder, models, workers):
                with transaction() as session:
                    dataset_id = factories.dataset(session, _made_up(pairs)).id
                    few = factories.dataset(session, _made_up(8 * workers)).id
                while _wait(_queued(few, workers, model), workers).scored_by < workers:
                    pass  # each loads the model
                return _wait(_queued(dataset_id, shards, model), workers)
        finally:
            services.stop()


def _made_up(count: int) -> list[tuple[str, str, str]]:
    draw = random.Random(0)
    words = [f"{word}{n}" for n in range(10) for word in ("river", "why", "answer", "long", "of")]

    def text(most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randrange(4, most)))

    return [(text(40), text(20), text(20)) for _ in range(count)]


def _queued(dataset_id: int, shards: int, model: str) -> int:
    """A run that is cut into about so many shards, and sent to as many workers."""
    with transaction() as session:
        config = {"model": model, "device": "cpu"}
        run = factories.run(session, dataset_id, kind="score", status="queued", config=config)
        characters = session.scalar(
            select(
                func.sum(
                    func.length(cast(Pair.prompt, Text))
                    + func.length(Pair.preferred)
                    + func.length(Pair.dispreferred)
                )
            ).where(Pair.dataset_id == dataset_id)
        )
        assert characters is not None
        with patch.object(planning, "CHARACTERS_A_SHARD", characters // shards + 500):
            planning.plan(session, run)
    for _ in range(shards):
        enqueue(run.id)
    return run.id


def _wait(run_id: int, workers: int) -> Timed:
    def is_over() -> bool:
        time.sleep(0.3)  # the processor is the workers'
        with transaction() as session:
            return session.get_one(Run, run_id).status in FINAL

    eventually(is_over, SECONDS)
    with transaction() as session:
        run = session.get_one(Run, run_id)
        assert run.status == "succeeded", run.error
        assert run.started_at is not None
        assert run.finished_at is not None
        columns = func.count(), func.count(RunShard.worker.distinct())
        shards, scored_by = session.execute(select(*columns).where(RunShard.run_id == run_id)).one()
        seconds = (run.finished_at - run.started_at).total_seconds()
        return Timed(workers, shards, run.summary["pairs"], seconds, scored_by)


@contextmanager
def _working(services: Services, folder: Path, models: Path, count: int) -> Iterator[None]:
    """So many workers, idle."""
    environment = os.environ | {
        "DATABASE_URL": services.database_url,
        "REDIS_URL": services.redis_url,
        "CHESBOARD_DATA_DIR": str(folder),
        "CHESBOARD_MODELS_DIR": str(models),
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            worker_command(get_settings()),
            cwd=PROJECT_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(count)
    ]

    def are_there() -> bool:
        with transaction() as session:
            return session.scalar(select(func.count()).select_from(Worker)) == count

    try:
        eventually(are_there, 120)
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


if __name__ == "__main__":
    asked = int(sys.argv[1]) if sys.argv[1:] else PAIRS
    print(*rows(asked, *sys.argv[2:3]), sep="\n")
