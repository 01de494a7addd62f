"""The API of measured displacement."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from app.core.database import SessionDep
from app.displacement import queries
from app.displacement.schemas import DisplacementList, MeasuredRunList
from chesboard.measures.registry import MeasureName

router = APIRouter(tags=["displacement"])

ScoreRun = Annotated[
    int | None,
    Query(description="Whose scores to show; default: the newest over the same dataset."),
]


@router.get("/runs/{run_id}/displacement")
def get_displacement(
    session: SessionDep, run_id: int, score_run: ScoreRun = None, measure: MeasureName = "ches"
) -> DisplacementList:
    """How far training displaced each pair, measured after the last step, beside its score."""
    return queries.get_displacement(session, run_id, score_run, measure)


@router.get("/runs/{run_id}/displacement.csv", response_class=StreamingResponse)
def download_displacement(
    session: SessionDep, run_id: int, score_run: ScoreRun = None, measure: MeasureName = "ches"
) -> StreamingResponse:
    """The same as CSV."""
    found = queries.get_displacement(session, run_id, score_run, measure)
    return StreamingResponse(
        queries.export_displacement(found),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="run-{run_id}-displacement.csv"'},
    )


@router.get("/runs/{run_id}/displacements")
def list_measured_runs(session: SessionDep, run_id: int) -> MeasuredRunList:
    """Of a score run: training runs over the same dataset whose displacement was measured."""
    return queries.list_measured_runs(session, run_id)
