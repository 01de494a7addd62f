"""The API of the decisions of training runs' filters."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.core.paging import Offset
from app.filtering import queries
from app.filtering.schemas import DecisionPage
from app.store.answers import PAGE_ITEMS
from app.web.downloads import Download, Format, PairParameter, SearchParameter, download
from app.web.session import SessionDep

router = APIRouter(tags=["filtering"])


@router.get("/runs/{run_id}/filter-decisions", response_model=DecisionPage)
def list_filter_decisions(
    session: SessionDep,
    run_id: int,
    epoch: Annotated[
        int | None, Query(ge=1, le=10_000, description="Only decisions before this epoch.")
    ] = None,
    kept: Annotated[
        bool | None, Query(description="true: only pairs that were kept; false: only dropped ones.")
    ] = None,
    pair: PairParameter = None,
    search: SearchParameter = None,
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=0, le=100)] = PAGE_ITEMS,
    format: Format = "json",
) -> DecisionPage | Download:
    """Which pairs a training run with `refresh_filter` kept and dropped before each epoch: the
    model's answer beside the preferred response, with their rewards. Also while the run goes on."""
    wanted = queries.Filter(epoch, pair, kept, search)
    if format == "json":
        return queries.list_decisions(session, run_id, wanted, offset=offset, limit=limit)
    queries.require_filter(session, run_id)
    found = queries.export_decisions(run_id, wanted, format)
    return download(found, f"run-{run_id}-filter", format)
