"""What is stored of a run, read in a transaction of its own."""

from sqlalchemy import select

from app.core.database import transaction
from app.store.runs import Run
from app.store.shards.tables import RunShard


def stored(run_id: int) -> Run:
    with transaction() as session:
        return session.get_one(Run, run_id)


def shards_of(run_id: int) -> list[RunShard]:
    with transaction() as session:
        query = select(RunShard).where(RunShard.run_id == run_id).order_by(RunShard.shard)
        return list(session.scalars(query))
