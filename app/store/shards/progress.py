"""How far a run is that is done in shards, and how fast its workers are."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.store.shards.tables import RunShard


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """What one worker did of a run. A shard that was taken over is counted for who has it now."""

    worker: str
    shards_done: int
    done: int
    """Pairs, or answers."""
    per_second: float | None
    """None until the first are done."""
    is_at_work: bool


@dataclass(frozen=True, slots=True)
class RunProgress:
    done: int
    total: int
    shards: int
    shards_done: int
    workers: list[WorkerProgress]

    @property
    def per_second(self) -> float:
        """Of those who are at work."""
        return sum(one.per_second or 0.0 for one in self.workers if one.is_at_work)

    @property
    def eta_seconds(self) -> float | None:
        """None while nobody is at work, or nothing was done by those who are."""
        return (self.total - self.done) / self.per_second if self.per_second else None


def read_progress(session: Session, run_id: int) -> RunProgress:
    """Of a run; without shards all is zero."""
    is_done = RunShard.status == "done"
    rows = session.execute(
        select(
            RunShard.worker,
            func.count().label("shards"),
            func.count().filter(is_done).label("shards_done"),
            func.sum(RunShard.done).label("done"),
            func.sum(RunShard.total).label("total"),
            func.sum(RunShard.advanced).label("advanced"),
            func.sum(RunShard.seconds).label("seconds"),
            func.bool_or(RunShard.status == "running").label("is_at_work"),
        )
        .where(RunShard.run_id == run_id)
        .group_by(RunShard.worker)
        .order_by(RunShard.worker)
    ).all()
    return RunProgress(
        done=sum(row.done for row in rows),
        total=sum(row.total for row in rows),
        shards=sum(row.shards for row in rows),
        shards_done=sum(row.shards_done for row in rows),
        workers=[
            WorkerProgress(
                row.worker,
                row.shards_done,
                row.advanced,
                row.advanced / row.seconds if row.advanced and row.seconds else None,
                row.is_at_work,
            )
            for row in rows
            if row.worker is not None
        ],
    )
