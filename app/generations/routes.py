"""The API of generated answers."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.core.paging import Offset
from app.generations import queries
from app.generations.schemas import GenerationPage
from app.store.answers import PAGE_ITEMS
from app.web.downloads import Download, Format, PairParameter, SearchParameter, download
from app.web.session import SessionDep

router = APIRouter(tags=["generations"])


@router.get("/runs/{run_id}/generations", response_model=GenerationPage)
def list_generations(
    session: SessionDep,
    run_id: int,
    pair: PairParameter = None,
    search: SearchParameter = None,
    ended: Annotated[
        bool | None, Query(description="true: only answers that ended; false: only cut ones.")
    ] = None,
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = PAGE_ITEMS,
    format: Format = "json",
) -> GenerationPage | Download:
    """The answers of a generation run by prompt, also while it goes on.

    Pages are of prompts: `offset` and `limit` count them. A prompt that several pairs have stands
    under the first of them.
    """
    wanted = queries.Filter(pair, search, ended)
    if format == "json":
        return queries.list_generations(session, run_id, wanted, offset=offset, limit=limit)
    queries.require_generations(session, run_id)
    found = queries.export_generations(run_id, wanted, format)
    return download(found, f"run-{run_id}-generations", format)
