"""The API of studies."""

import shutil
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from app.core.broker import enqueue, wake
from app.core.database import transaction
from app.core.errors import NotFoundError
from app.core.json_body import JsonBody
from app.core.paging import PAGE_SIZE, Offset
from app.core.settings import get_settings
from app.runs.weights import remove_result
from app.studies import exports, queries, requests
from app.studies.engine import advance
from app.studies.kinds import AnyPlan
from app.studies.report import render_report
from app.studies.schemas import Extension, KindOut, StudyModels, StudyOut, StudyPage, StudyPreview
from app.web.downloads import Download, download
from app.web.session import SessionDep

router = APIRouter(tags=["studies"])


def _now(study_id: int) -> StudyOut:
    with transaction() as session:
        return queries.get_study(session, study_id)


@router.get("/studies")
def list_studies(
    session: SessionDep,
    limit: Annotated[int, Query(ge=1, le=500)] = PAGE_SIZE,
    offset: Offset = 0,
) -> StudyPage:
    """Studies, newest first."""
    return queries.list_studies(session, limit, offset)


@router.post("/studies", status_code=201)
def create_study(plan: Annotated[AnyPlan, Body()], response: Response) -> StudyOut:
    """Store a study and queue its first runs; it goes on by itself as they end.

    The body is a plan, for example one that another study's `plan.json` holds. 422 names the
    invalid field.
    """
    with transaction() as session:
        study_id = requests.create(session, plan).id
    advance(study_id)
    response.headers["Location"] = f"/api/v1/studies/{study_id}"
    return _now(study_id)


@router.post("/studies/preview")
def preview_study(session: SessionDep, plan: Annotated[AnyPlan, Body()]) -> StudyPreview:
    """How many runs a plan comes to, and about how long they take. Nothing is stored."""
    return queries.preview(session, plan)


@router.get("/studies/kinds")
def list_kinds() -> list[KindOut]:
    """The kinds of studies that there are."""
    return queries.list_kinds()


@router.get("/studies/{study_id}")
def get_study(session: SessionDep, study_id: int) -> StudyOut:
    """A study with its runs, and its result as far as they have ended."""
    return queries.get_study(session, study_id)


@router.post("/studies/{study_id}/cancel")
def cancel_study(study_id: int) -> StudyOut:
    """Cancel a study and its unfinished runs. Idempotent."""
    with transaction() as session:
        _, changed = requests.cancel(session, study_id)
    for run in changed:
        wake(run.id, run.revision)
    return _now(study_id)


@router.post("/studies/{study_id}/resume")
def resume_study(study_id: int) -> StudyOut:
    """Take up a failed or cancelled study again, with its failed and cancelled runs."""
    with transaction() as session:
        _, changed = requests.resume(session, study_id)
    for run in changed:
        wake(run.id, run.revision)
        enqueue(run.id)
    advance(study_id)
    return _now(study_id)


@router.post("/studies/{study_id}/extend")
def extend_study(study_id: int, more: JsonBody[Extension]) -> StudyOut:
    """Add to the lists of a plan that may grow, for example `{"seeds": [3, 4]}`."""
    with transaction() as session:
        requests.extend(session, study_id, more.model_dump())
    advance(study_id)
    return _now(study_id)


@router.delete("/studies/{study_id}", status_code=204)
def delete_study(
    study_id: int,
    runs: Annotated[bool, Query(description="Delete its runs too.")] = False,
) -> None:
    """Delete a study that has ended. Its runs stay, unless they are to go with it."""
    with transaction() as session:
        deleted = requests.delete(session, study_id, with_runs=runs)
    for run_id in deleted:
        shutil.rmtree(get_settings().run_path(run_id), ignore_errors=True)
        wake(run_id, 2**62)


@router.delete("/studies/{study_id}/models")
def remove_models(study_id: int) -> StudyModels:
    """Remove the trained models of a study that has ended; its runs and results stay.

    409 while the study, or a run that starts from one of them, has not ended. Idempotent.
    """
    with transaction() as session:
        found = requests.check_models_removal(session, study_id)
    for run_id in found:
        remove_result(run_id)
    return StudyModels(runs=len(found), bytes=sum(found.values()))


@router.get(
    "/studies/{study_id}/plan.json",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
def download_plan(session: SessionDep, study_id: int) -> JSONResponse:
    """The study's plan, which `POST /studies` takes, here or on another server."""
    plan: dict[str, Any] = queries.portable_plan(requests.require_study(session, study_id))
    return JSONResponse(plan, headers=_attachment(f"study-{study_id}.json"))


@router.get("/studies/{study_id}/table.csv", response_class=StreamingResponse)
def download_table(
    session: SessionDep,
    study_id: int,
    number: Annotated[int, Query(ge=0, lt=100, description="Of the table, from 0.")] = 0,
) -> Download:
    """A table of the result as CSV."""
    result = queries.current_result(session, requests.require_study(session, study_id))
    if result is None or number >= len(result.tables):
        raise NotFoundError(f"Study {study_id} has no table {number} (yet).")
    lines = exports.export_table(result, number)
    return download(lines, f"study-{study_id}-table-{number}", "csv")


@router.get("/studies/{study_id}/report.html", response_class=HTMLResponse)
def download_report(session: SessionDep, study_id: int) -> Response:
    """The result as one HTML file that opens without the server."""
    study = queries.get_study(session, study_id)
    return Response(
        render_report(study, queries.portable_plan(requests.require_study(session, study_id))),
        media_type="text/html; charset=utf-8",
        headers=_attachment(f"study-{study_id}.html"),
    )


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
