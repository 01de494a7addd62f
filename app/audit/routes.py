"""Routes of the audit log: one page of events as JSON, or the export as a download."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.audit import queries
from app.audit.schemas import AuditPage
from app.core.text import STORABLE_PATTERN
from app.web.downloads import Download, download
from app.web.session import SessionDep

router = APIRouter(tags=["audit"])

FilterText = Annotated[str | None, Query(max_length=200, pattern=STORABLE_PATTERN)]


@router.get("/audit", response_model=AuditPage)
def list_audit_events(
    session: SessionDep,
    action: Annotated[
        FilterText, Query(description="An action or its prefix: 'run' finds 'run.create'.")
    ] = None,
    actor: Annotated[FilterText, Query(description="The name of a token.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    format: Annotated[
        Literal["json", "csv", "jsonl"],
        Query(description="csv and jsonl are downloads of all events, oldest first."),
    ] = "json",
) -> AuditPage | Download:
    """Who did what, when and from where, newest first."""
    if format == "json":
        return queries.list_events(session, action=action, actor=actor, limit=limit, offset=offset)
    return download(queries.export_events(action, actor, format), "audit", format)
