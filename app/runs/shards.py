"""The shards of a run and who does them."""

from dataclasses import asdict
from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer

from app.store.lookup import require_run
from app.store.runs import FINAL
from app.store.shards import reference
from app.store.shards.progress import WorkerProgress, read_progress
from app.store.shards.tables import RunShard, ShardStatus


class ShardWorker(BaseModel):
    """What one worker did of a run. A shard that another took over counts for that one."""

    worker: str
    is_at_work: bool = Field(description="Whether it has a shard of the run now.")
    shards_done: int
    done: int = Field(description="In the run's unit: pairs, or answers.")
    per_second: float | None = Field(
        description="Of these, tokenizing included; null until the first are done."
    )

    @classmethod
    def of(cls, found: WorkerProgress) -> Self:
        return cls(**asdict(found))


class Shard(BaseModel):
    shard: int
    status: ShardStatus
    worker: str | None = Field(description="Who has it, or had it last.")
    pairs: int
    characters: int = Field(description="Of the texts of its pairs.")
    total: int = Field(description="To be done, in the run's unit.")
    done: int
    per_second: float | None = Field(description="null until the first are done.")
    tries: int = Field(description="Claims since something of it was last stored.")
    failed_by: list[str] = Field(description="Workers that failed at it and gave it to others.")
    started_at: datetime | None = Field(description="When its worker claimed it.")
    finished_at: datetime | None

    @classmethod
    def of(cls, row: RunShard, pairs: int) -> Self:
        return cls(
            shard=row.shard,
            status=row.status,
            worker=row.worker,
            pairs=pairs,
            characters=row.characters,
            total=row.total,
            done=row.done,
            per_second=row.advanced / row.seconds if row.advanced and row.seconds else None,
            tries=row.tries_here,
            failed_by=row.failed_by,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )


class RunShards(BaseModel):
    """The parts that a run is cut into, and its workers; of a training run those of its reference
    pass. Batches are made within a shard, so that results do not depend on how many workers there
    are."""

    total: int = Field(description="Number of shards; 0 for a run that is not done in shards.")
    shards_done: int
    unit: str = Field(description="What is counted: 'pairs' or 'answers'.")
    per_second: float = Field(description="Of all workers that are at work.")
    eta_seconds: float | None = Field(
        description="Time left of all shards; null where nobody is at work or it is not known."
    )
    workers: list[ShardWorker]
    offset: int
    items: list[Shard] = Field(description="This page of the shards.")


def list_shards(session: Session, run_id: int, offset: int, limit: int) -> RunShards:
    """Raises:
    NotFoundError: no such run.
    """
    run = require_run(session, run_id)
    progress = read_progress(session, run_id)
    rows = session.execute(
        select(RunShard, func.cardinality(RunShard.pairs).label("size"))
        .options(defer(RunShard.pairs))
        .where(RunShard.run_id == run_id)
        .order_by(RunShard.shard)
        .offset(offset)
        .limit(limit)
    )
    return RunShards(
        total=progress.shards,
        shards_done=progress.shards_done,
        unit=reference.UNIT if run.kind == "train" else run.progress_unit,
        per_second=progress.per_second,
        eta_seconds=None if run.status in FINAL else progress.eta_seconds,
        workers=[ShardWorker.of(one) for one in progress.workers],
        offset=offset,
        items=[Shard.of(row.RunShard, row.size) for row in rows],
    )
