"""The API of measured displacement."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from app.displacement import queries
from app.displacement.schemas import DisplacementList, MeasuredRunList
from app.store.lookup import Id
from app.web.downloads import Download, download
from app.web.session import SessionDep
from chesboard.measures.registry import MeasureName

router = APIRouter(tags=["displacement"])

ScoreRun = Annotated[
    Id | None,
    Query(description="The score run. Default: the newest one over the same dataset."),
]

Points = Annotated[
    int | None,
    Query(
        ge=2,
        le=1_000_000,
        description="Thin the pairs to about this many, keeping the extremes. Default: all pairs.",
    ),
]


@router.get("/runs/{run_id}/displacement")
def get_displacement(
    session: SessionDep,
    run_id: int,
    score_run: ScoreRun = None,
    measure: MeasureName = "ches",
    points: Points = None,
) -> DisplacementList:
    """Each trained pair's change of log-probability after the last step, with its score."""
    return queries.get_displacement(session, run_id, score_run, measure, points)


@router.get("/runs/{run_id}/displacement.csv", response_class=StreamingResponse)
def download_displacement(
    session: SessionDep, run_id: int, score_run: ScoreRun = None, measure: MeasureName = "ches"
) -> Download:
    """Displacement of each trained pair, as CSV."""
    found = queries.export_displacement(session, run_id, score_run, measure)
    return download(found, f"run-{run_id}-displacement", "csv")


@router.get("/runs/{run_id}/displacements")
def list_measured_runs(session: SessionDep, run_id: int) -> MeasuredRunList:
    """Training runs over the dataset of a score run whose displacement was measured."""
    return queries.list_measured_runs(session, run_id)
