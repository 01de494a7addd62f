"""Subqueries of the displacement that training runs measured, for the review queue's filter."""

from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, func, or_, select, union_all
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.store.displaced import displaced_sql
from app.store.probes import Probe, ProbeStep
from app.store.runs import ReferenceLogprob, Run


def newest_measured(session: Session, dataset_id: int) -> int | None:
    """The newest training run over the dataset that has measured pairs."""
    return session.scalar(
        select(Run.id)
        .where(
            Run.dataset_id == dataset_id,
            Run.kind == "train",
            or_(
                select(Probe.run_id).where(Probe.run_id == Run.id).exists(),
                _ended().where(ReferenceLogprob.run_id == Run.id).exists(),
            ),
        )
        .order_by(Run.id.desc())
        .limit(1)
    )


def measured(run_id: int) -> Subquery:
    """(pair, preferred_change, dispreferred_change), nats: of all trained pairs against the
    reference where the run measured them at its end, else of watched pairs, from the first to the
    last recorded step.
    """
    ended = _ended(
        ReferenceLogprob.pair,
        (ReferenceLogprob.final_preferred - ReferenceLogprob.preferred).label("preferred_change"),
        (ReferenceLogprob.final_dispreferred - ReferenceLogprob.dispreferred).label(
            "dispreferred_change"
        ),
    ).where(ReferenceLogprob.run_id == run_id)
    watched = _watched(run_id)
    others = watched.where(
        watched.selected_columns.pair.not_in(
            _ended(ReferenceLogprob.pair).where(ReferenceLogprob.run_id == run_id)
        )
    )
    return union_all(ended, others).subquery("displacement")


def _ended(*columns: Any) -> Select[Any]:
    """Rows of pairs that were measured after a run's last step."""
    return select(*(columns or (ReferenceLogprob.run_id,))).where(
        ReferenceLogprob.final_preferred.is_not(None)
    )


def _watched(run_id: int) -> Select[Any]:
    first = _watched_steps(run_id, ProbeStep.step.asc()).subquery("first_step")
    last = _watched_steps(run_id, ProbeStep.step.desc()).subquery("last_step")
    return (
        select(
            first.c.pair,
            (last.c.preferred - first.c.preferred).label("preferred_change"),
            (last.c.dispreferred - first.c.dispreferred).label("dispreferred_change"),
        )
        .join(last, last.c.pair == first.c.pair)
        .where(last.c.step > first.c.step)
    )


def _watched_steps(run_id: int, order: ColumnElement[Any]) -> Select[Any]:
    return (
        select(
            ProbeStep.pair,
            ProbeStep.step,
            _total(ProbeStep.preferred_logprobs).label("preferred"),
            _total(ProbeStep.dispreferred_logprobs).label("dispreferred"),
        )
        .where(ProbeStep.run_id == run_id, ProbeStep.pair >= 0)
        .ext(distinct_on(ProbeStep.pair))
        .order_by(ProbeStep.pair, order)
    )


def _total(logprobs: Any) -> Any:
    """The sum over a response's tokens."""
    token = func.unnest(logprobs).column_valued("token")
    return select(func.sum(token)).scalar_subquery()


def is_displaced(changes: Subquery) -> ColumnElement[bool]:
    """Whether a pair of `measured` is displaced, as chesboard.records.displaced defines it."""
    return displaced_sql(changes.c.preferred_change, changes.c.dispreferred_change)
