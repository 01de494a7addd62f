"""Holds the rules against the training runs that have news; called by the sweeper.

So it is the same for our own runs, whose worker writes them, and for external ones, and no request
waits for it. Two web processes never check a run at the same time.
"""

import logging
import sys
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, func, not_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.broker import wake
from app.core.database import transaction
from app.core.settings import get_settings
from app.probes.headline import Observation
from app.probes.observations import observe_runs
from app.store.alarms import Alarm, AlarmCheck, AlarmDelivery, AlarmRule
from app.store.revisions import next_revision
from app.store.runs import TRAINING, Metric, Run

RUNS_AT_A_TIME = 20

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """Why a rule raises an alarm, and the step at which it was seen, if there is one."""

    message: str
    step: int | None = None


def check_all() -> None:
    """Check the training runs that were written to since they were checked last."""
    try:
        with transaction() as session:
            raised = check_news(session)
        for run_id, revision in raised:
            wake(run_id, revision)
    except SQLAlchemyError as error:
        log.warning("alarms were not checked: %s", str(error).splitlines()[0])


def check_news(session: Session) -> list[tuple[int, int]]:
    """Raise what the rules find; (run id, revision) of the runs with new alarms."""
    rules = session.scalars(select(AlarmRule).order_by(AlarmRule.id)).all()
    if not rules:
        return []
    ruled = {rule.run_id for rule in rules}
    rows = session.execute(
        select(Run, func.coalesce(AlarmCheck.revision, -1))
        .outerjoin(AlarmCheck, AlarmCheck.run_id == Run.id)
        .where(
            Run.kind.in_(TRAINING),
            Run.revision > func.coalesce(AlarmCheck.revision, -1),
            *([] if None in ruled else [among(Run.id, ruled)]),
        )
        .order_by(Run.id)
        .limit(RUNS_AT_A_TIME)
        .with_for_update(of=Run, skip_locked=True)
    ).all()
    raised = []
    for run, since in rows:
        if _check(session, run, since, rules):
            raised.append((run.id, next_revision(session, run.id)))
            session.refresh(run)
        statement = insert(AlarmCheck).values(run_id=run.id, revision=run.revision)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["run_id"], set_={"revision": statement.excluded.revision}
            )
        )
    return raised


def _check(session: Session, run: Run, since: int, rules: Sequence[AlarmRule]) -> bool:
    known = set(session.scalars(select(Alarm.rule_id).where(Alarm.run_id == run.id)))
    due = [rule for rule in rules if rule.run_id in (None, run.id) and rule.id not in known]
    if not due:
        return False
    is_about_probes = {"displaced_fraction", "opposite_lead"} & {rule.kind for rule in due}
    observed = observe_runs(session, [run])[run.id] if is_about_probes else []
    raised = False
    for rule in due:
        found = _find(session, run, since, rule, observed)
        if found is not None:
            _raise(session, run, rule, found)
            raised = True
    return raised


def _find(
    session: Session, run: Run, since: int, rule: AlarmRule, observed: Collection[Observation]
) -> Found | None:
    threshold = rule.threshold or 0.0
    match rule.kind:
        case "displaced_fraction":
            if row := _first(session, run, since, _exceeds(Metric.displaced_fraction, threshold)):
                return Found(
                    f"{row.displaced_fraction:.0%} of the pairs of a batch are displaced", row.step
                )
            share = sum(one.displaced for one in observed) / len(observed) if observed else 0.0
            if share > threshold:
                return Found(f"{share:.0%} of the watched pairs are displaced")
        case "opposite_lead":
            for one in observed:
                if one.displacement is not None and one.displacement.kind == "catastrophic":
                    return Found(f"the opposite of what is preferred takes over in pair {one.pair}")
        case "preferred_logprob":
            is_under = _exceeds(-Metric.preferred_logprob, -threshold)
            if row := _first(session, run, since, is_under):
                return Found(f"log p(y+) of a batch is {row.preferred_logprob:.2f} nats", row.step)
        case "loss_not_finite":
            is_finite = Metric.loss.between(-sys.float_info.max, sys.float_info.max)
            if row := _first(session, run, since, not_(is_finite)):
                return Found("the loss is not finite (NaN or infinity)", row.step)
        case "run_lost" if run.status == "lost":
            return Found("nothing is heard of its trainer; the training may go on")
        case "run_failed" if run.status == "failed":
            return Found(f"it failed: {(run.error or {}).get('message') or 'no reason given'}")
    return None


def _exceeds(value: Any, threshold: float) -> ColumnElement[bool]:
    """NaN, which PostgreSQL sorts above every number, exceeds none."""
    return and_(value > threshold, value <= sys.float_info.max)


def _first(session: Session, run: Run, since: int, condition: ColumnElement[bool]) -> Any:
    query = select(Metric).where(Metric.run_id == run.id, Metric.revision > since, condition)
    return session.scalar(query.order_by(Metric.step).limit(1))


def _raise(session: Session, run: Run, rule: AlarmRule, found: Found) -> None:
    alarm = Alarm(
        run_id=run.id, rule_id=rule.id, kind=rule.kind, message=found.message, step=found.step
    )
    session.add(alarm)
    session.flush()
    log.warning("run %s: alarm: %s", run.id, found.message)
    session.add_all(
        AlarmDelivery(alarm_id=alarm.id, webhook=number, next_at=func.clock_timestamp())
        for number in range(len(get_settings().webhooks))
    )


def forget_checks(session: Session, run_id: int | None) -> None:
    """After a new rule: check again from the beginning what it is about."""
    statement = delete(AlarmCheck)
    session.execute(statement if run_id is None else statement.where(AlarmCheck.run_id == run_id))
