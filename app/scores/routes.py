"""The API of scores and of the queue of pairs flagged for review."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.core.json_body import JsonBody
from app.core.paging import PAGE_SIZE, Offset
from app.scores import distribution, flags, queries
from app.scores.schemas import FlagQueue, FlagRequest, ScorePage, ScoreSummary, SortKey
from app.web.downloads import Download, Format, download
from app.web.session import SessionDep

router = APIRouter(tags=["scores"])


@router.get("/runs/{run_id}/scores", response_model=ScorePage)
def list_scores(
    session: SessionDep,
    run_id: int,
    sort: Annotated[
        SortKey,
        Query(description="A column; a leading '-' sorts descending. Missing values sort last."),
    ] = "-ches",
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = PAGE_SIZE,
    with_text: Annotated[bool, Query(description="Include the prompt and both responses.")] = False,
    format: Format = "json",
) -> ScorePage | Download:
    """The scores of a run's pairs, by default the highest CHES first."""
    if format == "json":
        return queries.list_scores(
            session, run_id, sort=sort, offset=offset, limit=limit, with_text=with_text
        )
    queries.require_scores(session, run_id)
    found = queries.export_scores(run_id, sort, with_text, format)
    return download(found, f"run-{run_id}-scores", format)


@router.get("/runs/{run_id}/scores/summary")
def summarize_scores(session: SessionDep, run_id: int) -> ScoreSummary:
    """The distribution of each measure over the run's pairs."""
    return distribution.summarize(session, run_id)


@router.post("/datasets/{dataset_id}/flags")
def flag_pairs(session: SessionDep, dataset_id: int, wanted: JsonBody[FlagRequest]) -> FlagQueue:
    """Flag the pairs with the most similar responses for review, replacing the previous queue."""
    return flags.flag_pairs(session, dataset_id, wanted)


@router.get("/datasets/{dataset_id}/flags")
def list_flags(session: SessionDep, dataset_id: int) -> FlagQueue:
    """The dataset's queue of pairs flagged for review."""
    return flags.get_queue(session, dataset_id)


@router.delete("/datasets/{dataset_id}/flags", status_code=204)
def clear_flags(session: SessionDep, dataset_id: int) -> None:
    """Empty the dataset's queue of pairs flagged for review."""
    flags.clear_queue(session, dataset_id)
