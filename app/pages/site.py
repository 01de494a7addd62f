"""The pages of the whole deployment: home, status and the audit log."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.alarms import queries as alarms
from app.audit import queries as audit
from app.audit.routes import FilterText
from app.core.paging import PAGE_SIZE
from app.core.settings import get_settings
from app.datasets import queries as datasets
from app.ops.health import check_health
from app.ops.snapshot import take_snapshot
from app.ops.status import describe
from app.pages.templating import render
from app.runs import queries as runs
from app.samples import SAMPLES
from app.store.runs import FINAL
from app.web.session import SessionDep

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

LAST_RUNS = 8
EVENTS_PER_PAGE = 100


@router.get("/")
def show_home(request: Request, session: SessionDep) -> HTMLResponse:
    unfinished = [
        run
        for status in ("running", "lost", "queued")
        for run in runs.list_runs(session, status=status, limit=PAGE_SIZE).items
    ]
    return render(
        request,
        "home.html",
        unfinished=unfinished,
        last_runs=[
            run
            for run in runs.list_runs(session, limit=LAST_RUNS + len(unfinished)).items
            if run.status in FINAL
        ][:LAST_RUNS],
        datasets=datasets.list_datasets(session),
        alarms=alarms.list_alarms(session, unacknowledged=True, limit=5),
        health=check_health(),
        samples=SAMPLES,
    )


@router.get("/status")
def show_status(request: Request) -> HTMLResponse:
    # Without a session: the page must render while the database is unreachable.
    return render(request, "status.html", status=describe(take_snapshot(), get_settings()))


@router.get("/audit")
def show_audit(
    request: Request,
    session: SessionDep,
    action: FilterText = "",
    actor: FilterText = "",
    offset: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> HTMLResponse:
    actions, actors = audit.list_names(session)
    return render(
        request,
        "audit.html",
        page=audit.list_events(
            session,
            action=action or None,
            actor=actor or None,
            limit=EVENTS_PER_PAGE,
            offset=offset,
        ),
        offset=offset,
        limit=EVENTS_PER_PAGE,
        filters={"action": action or "", "actor": actor or ""},
        actions=actions,
        actors=actors,
    )
