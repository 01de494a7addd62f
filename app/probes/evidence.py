"""What a displaced pair's verdict rests on beside its fork: the position where it lost most, and
its answers. Read for many pairs at once, in a number of queries that does not grow with them."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Select, and_, lateral, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, aliased

from app.core.arrays import rows_among
from app.store.probes import PositionStep, ProbeAnswer, ProbePosition
from chesboard.refusals import declines

PositionKey = tuple[int, int, int, int]
"""run id, pair, position in y+, step"""
AnswerKey = tuple[int, int, int]
"""run id, pair, step"""


@dataclass(frozen=True, slots=True)
class RecordedPosition:
    """A position of y+ with a ledger: its first recorded step and the one that is asked for."""

    place: ProbePosition
    begin: PositionStep
    now: PositionStep


def recorded_positions(
    session: Session, keys: Collection[PositionKey]
) -> dict[PositionKey, RecordedPosition]:
    """Those of these positions whose step was recorded. The fork is not among them: the probe
    itself holds it."""
    if not keys:
        return {}
    now = aliased(PositionStep)
    begin = aliased(PositionStep, lateral(_first_step()), name="begin")
    query = (
        select(ProbePosition, begin, now)
        .join(
            now,
            and_(
                now.run_id == ProbePosition.run_id,
                now.pair == ProbePosition.pair,
                now.response == ProbePosition.response,
                now.position == ProbePosition.position,
            ),
        )
        .where(
            now.response == "preferred",
            rows_among((now.run_id, now.pair, now.position, now.step), keys),
        )
    )
    return {
        (place.run_id, place.pair, place.position, last.step): RecordedPosition(place, first, last)
        for place, first, last in session.execute(query)
    }


def _first_step() -> Select[PositionStep]:
    """Of the position of the enclosing query."""
    return (
        select(PositionStep)
        .where(
            PositionStep.run_id == ProbePosition.run_id,
            PositionStep.pair == ProbePosition.pair,
            PositionStep.response == ProbePosition.response,
            PositionStep.position == ProbePosition.position,
        )
        .order_by(PositionStep.step)
        .limit(1)
        .correlate(ProbePosition)
    )


def turned_answers(session: Session, keys: Collection[AnswerKey]) -> set[AnswerKey]:
    """Those of these probes whose greedy answer refused at first and, up to the step, no longer
    does."""
    if not keys:
        return set()
    ends = [_outer_answers(session, keys, newest=newest) for newest in (False, True)]
    return {
        (run_id, pair, step)
        for run_id, pair, step in keys
        if (run_id, pair) in ends[0]
        and declines(ends[0][run_id, pair])
        and not declines(ends[1][run_id, pair])
    }


def _outer_answers(
    session: Session, keys: Collection[AnswerKey], *, newest: bool
) -> dict[tuple[int, int], str]:
    """The first or the last answer of each probe up to its step."""
    query = (
        select(ProbeAnswer.run_id, ProbeAnswer.pair, ProbeAnswer.text)
        .ext(distinct_on(ProbeAnswer.run_id, ProbeAnswer.pair))
        .where(
            or_(
                *(
                    and_(
                        ProbeAnswer.run_id == run_id,
                        ProbeAnswer.pair == pair,
                        ProbeAnswer.step <= step,
                    )
                    for run_id, pair, step in keys
                )
            )
        )
        .order_by(
            ProbeAnswer.run_id,
            ProbeAnswer.pair,
            ProbeAnswer.step.desc() if newest else ProbeAnswer.step,
        )
    )
    return {(row.run_id, row.pair): row.text for row in session.execute(query)}
