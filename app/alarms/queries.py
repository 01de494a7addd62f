"""Reading and changing alarms and their rules, in the caller's transaction."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.alarms.checking import forget_checks
from app.alarms.schemas import AlarmList, AlarmOut, NewRule, RuleOut
from app.core.arrays import among
from app.core.errors import InvalidInputError, NotFoundError, invalid_field
from app.core.paging import PAGE_SIZE
from app.store.alarms import Alarm, AlarmRule
from app.store.lookup import MAX_ID, find_run, there_is_no
from app.store.runs import TRAINING, Run

MAX_RULES = 200


def list_rules(session: Session) -> list[RuleOut]:
    """Those for all runs first."""
    order = (AlarmRule.run_id.nulls_first(), AlarmRule.id)
    return [
        RuleOut.model_validate(rule) for rule in session.scalars(select(AlarmRule).order_by(*order))
    ]


def add_rule(session: Session, wanted: NewRule) -> RuleOut:
    """Raises:
    InvalidInputError: there is no such training run, or there are too many rules.
    """
    if wanted.run_id is not None:
        run = find_run(session, wanted.run_id, lock=True)
        if run is None or run.kind not in TRAINING:
            raise invalid_field("run_id", there_is_no("training run", wanted.run_id))
    if (session.scalar(select(func.count()).select_from(AlarmRule)) or 0) >= MAX_RULES:
        raise InvalidInputError(f"There are {MAX_RULES} rules already. Delete some first.")
    rule = AlarmRule(**wanted.model_dump())
    session.add(rule)
    forget_checks(session, wanted.run_id)
    session.flush()
    session.refresh(rule)
    return RuleOut.model_validate(rule)


def delete_rule(session: Session, rule_id: int) -> None:
    """The alarms that it raised stay.

    Raises:
        NotFoundError: no such rule.
    """
    rule = session.get(AlarmRule, rule_id) if 0 < rule_id <= MAX_ID else None
    if rule is None:
        raise NotFoundError(there_is_no("alarm rule", rule_id))
    session.delete(rule)


def list_alarms(
    session: Session,
    run_id: int | None = None,
    *,
    unacknowledged: bool = False,
    limit: int = PAGE_SIZE,
    offset: int = 0,
) -> AlarmList:
    """Newest first."""
    conditions = []
    if run_id is not None:
        conditions.append(Alarm.run_id == run_id)
    if unacknowledged:
        conditions.append(Alarm.acknowledged_at.is_(None))
    total = session.scalar(select(func.count()).select_from(Alarm).where(*conditions)) or 0
    rows = session.execute(
        select(Alarm, Run.name)
        .join(Run, Run.id == Alarm.run_id)
        .where(*conditions)
        .order_by(Alarm.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return AlarmList(total=total, items=[_out(alarm, name) for alarm, name in rows])


def count_open(session: Session, run_ids: Sequence[int]) -> dict[int, int]:
    """The number of alarms that nobody has acknowledged, by run; runs without are left out."""
    rows = session.execute(
        select(Alarm.run_id, func.count().label("alarms"))
        .where(among(Alarm.run_id, run_ids), Alarm.acknowledged_at.is_(None))
        .group_by(Alarm.run_id)
    )
    return {row.run_id: row.alarms for row in rows}


def _out(alarm: Alarm, run_name: str) -> AlarmOut:
    values = {name: getattr(alarm, name) for name in AlarmOut.model_fields if name != "run_name"}
    return AlarmOut(run_name=run_name, **values)


def acknowledge(session: Session, alarm_id: int, by: str) -> AlarmOut:
    """Idempotent: who came first stays.

    Raises:
        NotFoundError: no such alarm.
    """
    alarm = None
    if 0 < alarm_id <= MAX_ID:
        alarm = session.get(Alarm, alarm_id, with_for_update=True)
    if alarm is None:
        raise NotFoundError(there_is_no("alarm", alarm_id))
    if alarm.acknowledged_at is None:
        alarm.acknowledged_at = func.clock_timestamp()
        alarm.acknowledged_by = by
        session.flush()
        session.refresh(alarm)
    return _out(alarm, session.get_one(Run, alarm.run_id).name)
