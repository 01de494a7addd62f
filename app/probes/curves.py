"""What whole curves say of a probe: its largest drawdowns, and when each destination began."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import REAL, ColumnElement, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by, array
from sqlalchemy.orm import Session

from app.core.arrays import rows_among
from app.probes.displacement import OppositeGroups, roles_at
from app.store.displaced import displaced_sql
from app.store.probes import Probe, ProbeStep
from chesboard.probing.destinations import PARTS, Destination, Masses, Part, flow
from chesboard.probing.drawdown import Drawdown, largest_drawdown

Key = tuple[int, int]
"""run id, pair"""


def drawdowns(
    session: Session, keys: Collection[Key], upto: int | None = None
) -> dict[Key, tuple[Drawdown | None, Drawdown | None]]:
    """Of these probes, up to a step: the largest drawdowns of the preferred token's probability at
    the fork and of log p(y+). Read from a covering index (ix_probe_steps_curves)."""
    if not keys:
        return {}

    def by_step(column: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.array_agg(aggregate_order_by(column, ProbeStep.step))

    query = (
        select(
            ProbeStep.run_id,
            ProbeStep.pair,
            by_step(ProbeStep.step.expression),
            by_step(ProbeStep.preferred_prob.expression),
            by_step(ProbeStep.preferred_change.expression),
        )
        .where(rows_among((ProbeStep.run_id, ProbeStep.pair), keys))
        .group_by(ProbeStep.run_id, ProbeStep.pair)
    )
    if upto is not None:
        query = query.where(ProbeStep.step <= upto)
    return {
        (run_id, pair): (largest_drawdown(steps, probs), largest_drawdown(steps, changes))
        for run_id, pair, steps, probs, changes in session.execute(query)
    }


def destination_onsets(
    session: Session,
    probe: Probe,
    begin: ProbeStep,
    upto: int,
    opposite_groups: OppositeGroups,
) -> dict[Destination, int]:
    """The first recorded step at which the pair was displaced and this destination had gained most
    at the fork. Of the watched tokens; the others are elsewhere."""
    roles = roles_at(
        probe, probe.fork_position, probe.watched, begin.watched_probs, opposite_groups
    )
    indexes: dict[Part, list[int]] = {part: [] for part in PARTS}
    for index, token in enumerate(probe.watched):
        indexes[roles.part(token["token"])].append(index)
    parts = [part for part in PARTS if part != "elsewhere"]

    preferred, dispreferred = (
        column.expression for column in (ProbeStep.preferred_change, ProbeStep.dispreferred_change)
    )

    def probs(part: Part) -> array[float]:
        return array([ProbeStep.watched_probs[index + 1] for index in indexes[part]], type_=REAL)

    query = (
        select(ProbeStep.step, *(probs(part).label(part) for part in parts))
        .where(ProbeStep.run_id == probe.run_id, ProbeStep.pair == probe.pair)
        .where(ProbeStep.step <= upto)
        .where(displaced_sql(preferred, dispreferred))
        .where(ProbeStep.preferred_prob < begin.preferred_prob)
        .order_by(ProbeStep.step)
    )
    before = _masses({part: [begin.watched_probs[i] for i in indexes[part]] for part in parts})
    onsets: dict[Destination, int] = {}
    for step, *found in session.execute(query):
        now = _masses(dict(zip(parts, found, strict=True)))
        destination = flow(roles, before, now).destination
        if destination is not None:
            onsets.setdefault(destination, step)
    return onsets


def _masses(known: Mapping[Part, Sequence[float]]) -> Masses:
    sums = {part: sum(probs) for part, probs in known.items()}
    return {**sums, "elsewhere": 1 - sum(sums.values())}
