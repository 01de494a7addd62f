"""Displacement in SQL: the counterpart of chesboard.records.displaced, and what runs measured."""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Subquery,
    and_,
    case,
    false,
    func,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import distinct_on

from app.core.arrays import not_among
from app.store.probes import ProbeStep
from app.store.runs import ReferenceLogprob
from chesboard.records import STILL_NATS


def displaced_sql(
    preferred_change: ColumnElement[Any], dispreferred_change: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Whether a pair is displaced, from two expressions of type double precision, in nats.

    docs/theory.md, equation 8. True or false, never NULL: NULL and NaN are not displaced, as in
    chesboard.records.displaced. PostgreSQL sorts NaN above every number, so a comparison of a NaN
    margin would be true; `dispreferred_change < preferred_change` holds for no NaN there. It also
    keeps the difference within range: PostgreSQL raises an error where subtraction overflows.
    """
    candidate = and_(preferred_change < -STILL_NATS, dispreferred_change < preferred_change)
    return case(
        (candidate, preferred_change - dispreferred_change > STILL_NATS),
        else_=false(),
    )


def measured_changes(run_id: int) -> Subquery:
    """(pair, preferred_change, dispreferred_change), nats: of all trained pairs against the
    reference where the run measured them at its end, else of watched pairs, from the first to the
    last recorded step.
    """
    watched = watched_changes(run_id)
    others = watched.where(
        not_among(
            watched.selected_columns.pair,
            ended(ReferenceLogprob.pair).where(ReferenceLogprob.run_id == run_id),
        )
    )
    return union_all(ended_changes(run_id), others).subquery("displacement")


def ended_changes(run_id: int) -> Select[Any]:
    """The same, of the pairs that were measured after the run's last step."""
    return ended(
        ReferenceLogprob.pair,
        (ReferenceLogprob.final_preferred - ReferenceLogprob.preferred).label("preferred_change"),
        (ReferenceLogprob.final_dispreferred - ReferenceLogprob.dispreferred).label(
            "dispreferred_change"
        ),
    ).where(ReferenceLogprob.run_id == run_id)


def ended(*columns: Any) -> Select[Any]:
    """Rows of pairs that were measured after a run's last step."""
    return select(*(columns or (ReferenceLogprob.run_id,))).where(
        ReferenceLogprob.final_preferred.is_not(None)
    )


def watched_changes(run_id: int) -> Select[Any]:
    """The same, of watched pairs alone."""
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
