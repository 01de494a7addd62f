"""The API of reviews: verdicts on pairs, their history, the review queue, and bulk verdicts."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from app.core.errors import InvalidInputError
from app.core.json_body import JsonBody
from app.reviews import bulk, queries, queue, verdicts
from app.reviews.schemas import (
    BatchList,
    BatchOut,
    BulkRequest,
    History,
    PairEdit,
    QueueItem,
    QueueOrder,
    QueuePage,
    QueuePageQuery,
    QueueQuery,
    Reviewer,
    ReviewOut,
    ReviewProgress,
    ReviewRequest,
    UndoneBatch,
    UndoRequest,
    Version,
)
from app.web.session import SessionDep

router = APIRouter(tags=["reviews"])

IfMatch = Annotated[
    str | None,
    Header(description='The version that was seen, for example `"3"`: same as `version`.'),
]
ReviewerQuery = Annotated[Reviewer | None, Query(description="The reviewer's name.")]


@router.get("/datasets/{dataset_id}/pairs/{pair}")
def get_pair(session: SessionDep, dataset_id: int, pair: int) -> QueueItem:
    """A pair with its review, measures and measured displacement."""
    return queue.get_item(session, dataset_id, pair)


@router.patch("/datasets/{dataset_id}/pairs/{pair}")
def edit_pair(
    session: SessionDep, dataset_id: int, pair: int, wanted: JsonBody[PairEdit]
) -> QueueItem:
    """Edit a pair's text: stores a new version, with the verdict 'fix'. Old versions are kept.

    New runs and exports use the newest version; earlier runs keep the version that they had.
    """
    verdicts.edit(session, dataset_id, pair, wanted)
    return queue.get_item(session, dataset_id, pair)


@router.get("/datasets/{dataset_id}/pairs/{pair}/review")
def get_review(session: SessionDep, response: Response, dataset_id: int, pair: int) -> ReviewOut:
    return _tagged(response, queries.get_review(session, dataset_id, pair))


@router.put("/datasets/{dataset_id}/pairs/{pair}/review")
def decide(
    session: SessionDep,
    response: Response,
    dataset_id: int,
    pair: int,
    wanted: JsonBody[ReviewRequest],
    if_match: IfMatch = None,
) -> ReviewOut:
    """Set a verdict. 409, with the current one as `current`, if it changed since it was seen."""
    seen = _seen(wanted.version, if_match)
    wanted = wanted.model_copy(update={"version": seen})
    return _tagged(response, verdicts.decide(session, dataset_id, pair, wanted))


@router.delete("/datasets/{dataset_id}/pairs/{pair}/review")
def clear(
    session: SessionDep,
    response: Response,
    dataset_id: int,
    pair: int,
    version: Annotated[Version | None, Query()] = None,
    reviewer: ReviewerQuery = None,
    if_match: IfMatch = None,
) -> ReviewOut:
    """Withdraw a verdict; its history is kept."""
    seen = _seen(version, if_match)
    return _tagged(response, verdicts.clear(session, dataset_id, pair, seen, reviewer))


@router.get("/datasets/{dataset_id}/pairs/{pair}/review/history")
def get_history(session: SessionDep, dataset_id: int, pair: int) -> History:
    """Every change of a pair's verdict and text, newest first."""
    return queries.get_history(session, dataset_id, pair)


@router.post("/datasets/{dataset_id}/pairs/{pair}/review/undo")
def undo(
    session: SessionDep,
    response: Response,
    dataset_id: int,
    pair: int,
    wanted: JsonBody[UndoRequest],
    if_match: IfMatch = None,
) -> ReviewOut:
    """Undo the last change: a verdict, a note or an edit. Repeated, undo the one before it."""
    wanted = wanted.model_copy(update={"version": _seen(wanted.version, if_match)})
    return _tagged(response, verdicts.undo(session, dataset_id, pair, wanted))


def _tagged(response: Response, review: ReviewOut) -> ReviewOut:
    response.headers["ETag"] = f'"{review.version}"'
    return review


def _seen(version: int | None, if_match: str | None) -> int | None:
    if if_match is None:
        return version
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise InvalidInputError('If-Match must be the version of a verdict, for example "3".')
    return int(text)


# --- the queue -----------------------------------------------------------------------------------


@router.get("/datasets/{dataset_id}/reviews")
def list_queue(
    session: SessionDep, dataset_id: int, wanted: Annotated[QueuePageQuery, Query()]
) -> QueuePage:
    """A page of the review queue: pairs with their reviews, scores and displacement."""
    return queue.list_queue(session, dataset_id, wanted)


@router.get("/datasets/{dataset_id}/reviews/order")
def list_order(
    session: SessionDep, dataset_id: int, wanted: Annotated[QueueQuery, Query()]
) -> QueueOrder:
    """The ordinals of the whole review queue, in its order."""
    return queue.list_order(session, dataset_id, wanted)


@router.get("/datasets/{dataset_id}/reviews/progress")
def get_progress(session: SessionDep, dataset_id: int) -> ReviewProgress:
    """The progress of the review, and the agreement between reviewers."""
    return queries.get_progress(session, dataset_id)


@router.post("/datasets/{dataset_id}/reviews/bulk")
def decide_many(session: SessionDep, dataset_id: int, wanted: JsonBody[BulkRequest]) -> BatchOut:
    """Give one verdict to all pairs that a filter matches. 409 if their number has changed."""
    return bulk.decide_many(session, dataset_id, wanted)


@router.get("/datasets/{dataset_id}/reviews/batches")
def list_batches(session: SessionDep, dataset_id: int) -> BatchList:
    """Bulk verdicts, newest first."""
    return queries.list_batches(session, dataset_id)


@router.post("/datasets/{dataset_id}/reviews/batches/{batch_id}/undo")
def undo_many(
    session: SessionDep, dataset_id: int, batch_id: int, reviewer: ReviewerQuery = None
) -> UndoneBatch:
    """Undo a bulk verdict, except on pairs that were changed since."""
    return bulk.undo_many(session, dataset_id, batch_id, reviewer)
