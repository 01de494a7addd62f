"""The API of what tokenizing showed of a run's pairs."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.core.paging import PAGE_SIZE, Offset
from app.findings import queries
from app.findings.schemas import FindingList
from app.store.lookup import require_run
from app.web.downloads import Download, Format, download
from app.web.session import SessionDep
from chesboard.findings import FindingKind

router = APIRouter(tags=["runs"])


@router.get("/runs/{run_id}/findings", response_model=FindingList)
def list_findings(
    session: SessionDep,
    run_id: int,
    kind: Annotated[FindingKind | None, Query(description="Only findings of this kind.")] = None,
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=0, le=1000)] = PAGE_SIZE,
    format: Format = "json",
) -> FindingList | Download:
    """What tokenizing showed of the run's pairs: what is cut, left out, merged or doubled.

    Recorded by runs of every kind before anything expensive is computed.
    """
    if format == "json":
        return queries.list_findings(session, run_id, kind=kind, offset=offset, limit=limit)
    require_run(session, run_id)
    found = queries.export_findings(run_id, kind, format)
    return download(found, f"run-{run_id}-findings", format)
