"""The API of runs.

A change commits in its own transaction before workers and pages are notified, so that a message
never precedes its row and none is sent for a rollback.
"""

import shutil
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.core.broker import enqueue, wake
from app.core.database import transaction
from app.core.errors import ForbiddenError
from app.core.json_body import JsonBody
from app.core.paging import PAGE_SIZE, Offset
from app.core.settings import get_settings
from app.core.text import STORABLE_PATTERN
from app.runs import capacity, queries, requests, seats, selection, shards, weights
from app.runs.external import requests as external
from app.runs.external.access import is_recorder
from app.runs.external.routes import router as external_router
from app.runs.external.schemas import ExternalRunOut
from app.runs.schemas import (
    MetricList,
    NewRun,
    RunChanges,
    RunOut,
    RunPage,
    RunPairs,
    SelectionPreview,
)
from app.runs.seats import RunSeats
from app.runs.shards import RunShards
from app.store.lookup import Id, require_run
from app.store.runs import EXTERNAL, Kind, Status
from app.web.downloads import Download, download
from app.web.session import SessionDep
from app.web.windows import WindowDep
from chesboard.configs import Selection

router = APIRouter(tags=["runs"])
router.include_router(external_router)

BROKER_UNREACHABLE = (
    "The broker (Redis) is unreachable, so no worker could be notified. The run is stored and "
    "starts once the broker is back."
)


@router.post("/runs", status_code=201, responses={200: {"model": ExternalRunOut}})
def create_run(
    request: Request, wanted: JsonBody[NewRun], response: Response
) -> RunOut | ExternalRunOut:
    """Queue a run, or begin to record one that is trained elsewhere (kind external): 200 with the
    run there is where its key was used before. 422 names the invalid field."""
    if is_recorder(request) and wanted.kind != EXTERNAL:
        raise ForbiddenError("A recorder makes external runs alone.")
    if wanted.kind == EXTERNAL:
        made, is_new = _begin_external(request, wanted)
        response.headers["Location"] = f"/api/v1/runs/{made.id}"
        response.status_code = 201 if is_new else 200
        return made
    with transaction() as session:
        run = queries.describe(session, [requests.create(session, wanted)])[0]
    response.headers["Location"] = f"/api/v1/runs/{run.id}"
    return _enqueued(run)


def _begin_external(request: Request, wanted: NewRun) -> tuple[ExternalRunOut, bool]:
    with transaction() as session:
        run, is_new = external.create(session, wanted)
        described = queries.describe(session, [run])[0]
    made = ExternalRunOut(
        **described.model_dump(),
        url=str(request.url_for("show_run", run_id=run.id)),
        attempt=described.attempts,
        lease_seconds=external.lease().total_seconds(),
    )
    return made, is_new


@router.post("/runs/capacity")
def foresee_capacity(
    session: SessionDep, asked: JsonBody[capacity.CapacityAsked]
) -> capacity.Capacity:
    """What a run would need of a worker's memory, what the workers have, and what would make it
    fit. Nothing is stored."""
    return capacity.foresee(session, asked)


@router.get("/runs")
def list_runs(
    session: SessionDep,
    kind: Kind | None = None,
    status: Status | None = None,
    dataset_id: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = PAGE_SIZE,
    offset: Offset = 0,
) -> RunPage:
    """Runs, newest first."""
    return queries.list_runs(
        session, kind=kind, status=status, dataset_id=dataset_id, limit=limit, offset=offset
    )


@router.get("/runs/{run_id}")
def get_run(session: SessionDep, run_id: int) -> RunOut:
    return queries.get_run(session, run_id)


@router.patch("/runs/{run_id}")
def rename_run(run_id: int, changes: JsonBody[RunChanges]) -> RunOut:
    with transaction() as session:
        run = queries.describe(session, [requests.rename(session, run_id, changes.name)])[0]
    wake(run.id, run.revision)
    return run


@router.post("/runs/{run_id}/cancel")
def cancel_run(run_id: int) -> RunOut:
    """Cancel a queued run at once, a running one within a step. Idempotent."""
    with transaction() as session:
        run = queries.describe(session, [requests.cancel(session, run_id)])[0]
    wake(run.id, run.revision)
    return run


@router.post("/runs/{run_id}/resume")
def resume_run(run_id: int) -> RunOut:
    """Queue a failed or cancelled run again; it continues from its last checkpoint."""
    with transaction() as session:
        run = queries.describe(session, [requests.resume(session, run_id)])[0]
    wake(run.id, run.revision)
    return _enqueued(run)


@router.delete("/runs/{run_id}", status_code=204)
def delete_run(run_id: int) -> None:
    """Delete a run with its records, checkpoints and result.

    409 while a worker runs it, or while an unfinished run uses its result. The trainer of an
    external run stops sending.
    """
    with transaction() as session:
        requests.delete(session, run_id)
    shutil.rmtree(get_settings().run_path(run_id), ignore_errors=True)
    wake(run_id, 2**62)


@router.get("/runs/{run_id}/weights", response_class=StreamingResponse)
def download_weights(session: SessionDep, run_id: int) -> Download:
    """The trained model as a ZIP of a folder that transformers' from_pretrained reads.

    409 while the run has not finished; 404 if it has no model.
    """
    folder = weights.result_folder(require_run(session, run_id))
    return Download(weights.zip_stream(folder, f"run-{run_id}"), f"run-{run_id}.zip", spooled=False)


@router.get("/runs/{run_id}/metrics", response_model=MetricList)
def list_metrics(
    session: SessionDep,
    run_id: int,
    window: WindowDep,
    since: Annotated[
        int | None, Query(ge=-1, lt=2**31, description="Only steps after this one.")
    ] = None,
    other: Annotated[
        str | None,
        Query(
            max_length=1000,
            pattern=STORABLE_PATTERN,
            description="The name of one of `extra`, whose extremes downsampling is to keep, too.",
        ),
    ] = None,
    format: Literal["json", "csv"] = "json",
) -> MetricList | Download:
    """The metrics of each optimizer step. The CSV holds every step after `since`."""
    if format == "json":
        return queries.list_metrics(session, run_id, since, window, other)
    require_run(session, run_id)
    return download(queries.export_metrics_csv(run_id, since), f"run-{run_id}-metrics", "csv")


@router.get("/runs/{run_id}/pairs", response_model=RunPairs)
def list_run_pairs(
    session: SessionDep,
    run_id: int,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=0, le=100_000)] = 1000,
    format: Literal["json", "csv"] = "json",
) -> RunPairs | Download:
    """The ordinals of the pairs that the run was given; later reviews do not change them.

    The CSV holds all of them, with the versions of their texts.
    """
    if format == "csv":
        return download(selection.export_run_pairs(session, run_id), f"run-{run_id}-pairs", "csv")
    return selection.list_run_pairs(session, run_id, offset, limit)


@router.get("/runs/{run_id}/shards")
def list_run_shards(
    session: SessionDep,
    run_id: int,
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=0, le=10_000)] = 1000,
) -> RunShards:
    """The shards of a run, which its workers do at once, and how fast each worker is; of a training
    run those of its reference pass. A run of another kind, or one that no worker has claimed yet,
    has none."""
    return shards.list_shards(session, run_id, offset, limit)


@router.get("/runs/{run_id}/seats")
def list_run_seats(session: SessionDep, run_id: int) -> RunSeats:
    """Which workers train a run together in its present attempt (`chesboard worker --seats N`), and
    for how many it waits. A run that is over, or one worker's, has no seats."""
    return seats.list_seats(session, run_id)


@router.post("/datasets/{dataset_id}/selection")
def preview_selection(
    session: SessionDep, dataset_id: int, wanted: JsonBody[Selection]
) -> SelectionPreview:
    """How many pairs a `selection` matches at present. Nothing is stored."""
    return selection.preview(session, dataset_id, wanted)


def _enqueued(run: RunOut) -> RunOut:
    """Notify the workers of a committed run; an unreachable broker becomes a message of the run."""
    if enqueue(run.id):
        return run
    return run.model_copy(update={"messages": [*run.messages, BROKER_UNREACHABLE]})


@router.delete("/runs/{run_id}/weights", status_code=204)
def remove_weights(run_id: int) -> None:
    """Remove the trained model alone: the run keeps its numbers, and no run can start from it.

    409 while the run, or a run that uses the model, has not finished; 404 if it has no model.
    """
    with transaction() as session:
        requests.check_model_removal(session, run_id)
    weights.remove_result(run_id)
