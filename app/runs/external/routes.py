"""The calls by which a trainer elsewhere records its run. `POST /runs` with the kind "external"
makes it (app/runs/routes.py)."""

from anyio import to_thread
from fastapi import APIRouter, Request

from app.core.broker import wake
from app.core.database import transaction
from app.core.errors import TooManyRequestsError
from app.core.json_body import JsonBody
from app.core.rate_limit import TokenBuckets
from app.runs import queries
from app.runs.external import reading, requests
from app.runs.external.schemas import AttemptOut, Ending, NewAttempt, Received, batch_schema
from app.runs.schemas import RunOut

router = APIRouter(tags=["external runs"])

BATCHES_PER_SECOND = 5.0
BURST = 50
_batches = TokenBuckets(BATCHES_PER_SECOND, BURST)


@router.post(
    "/runs/{run_id}/records",
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "May be compressed (Content-Encoding: gzip).",
            "content": {"application/json": {"schema": batch_schema()}},
        }
    },
)
async def receive_records(request: Request, run_id: int) -> Received:
    """Store a batch of records and messages of an external run, all or nothing; an empty one is a
    heartbeat.

    A record replaces an earlier one of the same step. 404: the run was deleted; stop sending. 409,
    `code` stale_attempt: the training was resumed elsewhere; stop sending. 422 names records by
    their number, from 1, and the field.
    """
    if wait := _batches.take(str(run_id)):
        raise TooManyRequestsError("Batches of this run come too fast. Wait a moment.", wait)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    body = await reading.read_body(request.stream(), encoding)
    return await to_thread.run_sync(_receive, run_id, body)


def _receive(run_id: int, body: bytes) -> Received:
    batch = reading.parse_batch(body)
    with transaction() as session:
        done = requests.receive(session, run_id, batch)
        answer = Received(
            revision=done.run.revision,
            recorded_through=done.recorded_through,
            cancel_requested=done.run.cancel_requested,
            lease_seconds=requests.lease().total_seconds(),
        )
    if done.is_new:
        wake(run_id, answer.revision)
    return answer


@router.post("/runs/{run_id}/attempts", status_code=201)
def begin_attempt(run_id: int, wanted: JsonBody[NewAttempt]) -> AttemptOut:
    """Go on from a checkpoint: deletes what was recorded after its step, and refuses what earlier
    attempts still send. Pages cut their curves there."""
    with transaction() as session:
        done = requests.rewind(session, run_id, wanted.resumed_from_step)
        answer = AttemptOut(
            attempt=done.run.attempts,
            revision=done.run.revision,
            recorded_through=done.recorded_through,
            lease_seconds=requests.lease().total_seconds(),
        )
    wake(run_id, answer.revision)
    return answer


@router.post("/runs/{run_id}/finish")
def finish_run(run_id: int, ending: JsonBody[Ending]) -> RunOut:
    """End an external run. Idempotent: a run that has ended stays as it is."""
    with transaction() as session:
        run, is_new = requests.finish(session, run_id, ending)
        answer = queries.describe(session, [run])[0]
    if is_new:
        wake(run_id, answer.revision)
    return answer
