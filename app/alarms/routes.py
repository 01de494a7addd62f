"""The API of alarms and their rules."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from app.alarms import queries
from app.alarms.schemas import AlarmList, AlarmOut, NewRule, RuleList, RuleOut
from app.auth.authentication import LOCAL, visitor_of
from app.core.database import transaction
from app.core.json_body import JsonBody
from app.core.paging import PAGE_SIZE, Offset
from app.store.lookup import Id
from app.web.session import SessionDep

router = APIRouter(tags=["alarms"])


@router.get("/alarms")
def list_alarms(
    session: SessionDep,
    run_id: Id | None = None,
    unacknowledged: bool = False,
    limit: Annotated[int, Query(ge=1, le=500)] = PAGE_SIZE,
    offset: Offset = 0,
) -> AlarmList:
    """What the rules have found, newest first."""
    return queries.list_alarms(
        session, run_id, unacknowledged=unacknowledged, limit=limit, offset=offset
    )


@router.post("/alarms/{alarm_id}/acknowledge")
def acknowledge_alarm(request: Request, alarm_id: int) -> AlarmOut:
    """Somebody has seen it. Idempotent."""
    visitor = visitor_of(request)
    with transaction() as session:
        return queries.acknowledge(session, alarm_id, visitor.name if visitor else LOCAL)


@router.get("/alarm-rules")
def list_rules(session: SessionDep) -> RuleList:
    return RuleList(items=queries.list_rules(session))


@router.post("/alarm-rules", status_code=201)
def add_rule(wanted: JsonBody[NewRule]) -> RuleOut:
    """Have alarms raised, also by what is recorded already. A rule is raised once a run."""
    with transaction() as session:
        return queries.add_rule(session, wanted)


@router.delete("/alarm-rules/{rule_id}", status_code=204)
def delete_rule(rule_id: int) -> None:
    """The alarms that it raised stay."""
    with transaction() as session:
        queries.delete_rule(session, rule_id)
