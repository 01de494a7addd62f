"""The revision counter, which orders all writes to a run (see app/store/runs.py)."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.store.runs import Run


def next_revision(session: Session, run_id: int) -> int:
    """Increment a run's revision; its row stays locked until the transaction ends.

    The lock makes revisions visible in their order: no transaction that a reader sees after
    revision N has a smaller one.
    """
    return session.execute(
        update(Run)
        .where(Run.id == run_id)
        .values(revision=Run.revision + 1)
        .returning(Run.revision)
    ).scalar_one()
