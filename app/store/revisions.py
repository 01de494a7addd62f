"""The counter that orders everything a run writes (see app/store/runs.py)."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.store.runs import Run


def next_revision(session: Session, run_id: int) -> int:
    """Count one write of a run; the row stays locked until the transaction ends.

    The lock makes revisions become visible in their order: a reader that has seen revision N
    will never be shown a smaller one later.
    """
    return session.execute(
        update(Run)
        .where(Run.id == run_id)
        .values(revision=Run.revision + 1)
        .returning(Run.revision)
    ).scalar_one()
