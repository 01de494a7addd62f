"""The API of pre-flights."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.preflight import queries
from app.preflight.schemas import PreflightList, PreflightPairOut
from app.store.lookup import Id
from app.web.downloads import Download, download
from app.web.session import SessionDep

router = APIRouter(tags=["pre-flight"])

TrainRun = Annotated[
    Id | None,
    Query(description="The training run to set beside the prediction. Default: the newest."),
]


@router.get("/runs/{run_id}/preflight", response_model=PreflightList)
def get_preflight(
    session: SessionDep,
    run_id: int,
    train_run: TrainRun = None,
    format: Annotated[
        Literal["json", "csv"],
        Query(description="csv: one line a pair, with its row of influence."),
    ] = "json",
) -> PreflightList | Download:
    """What the first step on each pair alone would do, to it and to every other pair of the run.

    First order, along the optimizer's own step; what training then did stands beside it.
    """
    found = queries.get_preflight(session, run_id, train_run)
    if format == "json":
        return found
    return download(queries.export_preflight(found), f"run-{run_id}-preflight", "csv")


@router.get("/runs/{run_id}/preflight/{pair}")
def get_preflight_pair(
    session: SessionDep, run_id: int, pair: int, train_run: TrainRun = None
) -> PreflightPairOut:
    """One pair: gainers and losers at its fork, and which tokens of y- pull y+ down."""
    return queries.get_preflight_pair(session, run_id, pair, train_run)
