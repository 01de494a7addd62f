"""The displacement that training runs measured, for the review queue's filter."""

from sqlalchemy import ColumnElement, Subquery, or_, select
from sqlalchemy.orm import Session

from app.store.displaced import displaced_sql, ended
from app.store.external import numbers_pairs_as_dataset
from app.store.probes import Probe
from app.store.runs import ReferenceLogprob, Run


def newest_measured(session: Session, dataset_id: int) -> int | None:
    """The newest training run over the dataset that has measured pairs."""
    return session.scalar(
        select(Run.id)
        .where(
            Run.dataset_id == dataset_id,
            numbers_pairs_as_dataset(),
            or_(
                select(Probe.run_id).where(Probe.run_id == Run.id).exists(),
                ended().where(ReferenceLogprob.run_id == Run.id).exists(),
            ),
        )
        .order_by(Run.id.desc())
        .limit(1)
    )


def is_displaced(changes: Subquery) -> ColumnElement[bool]:
    """Whether a pair is displaced, as chesboard.records.displaced defines it."""
    return displaced_sql(changes.c.preferred_change, changes.c.dispreferred_change)
