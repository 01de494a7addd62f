"""The API of reviews: verdicts on pairs, their history, the queue, and many verdicts at once."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from app.core.errors import InvalidInputError
from app.reviews import bulk, deciding, queries, queue
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
    str | None, Header(description='The version that was seen, as `"3"`: the same as `version`.')
]
ReviewerQuery = Annotated[Reviewer | None, Query(description="Who says so.")]


@router.get("/datasets/{dataset_id}/pairs/{pair}")
def get_pair(session: SessionDep, dataset_id: int, pair: int) -> QueueItem:
    """A pair with its verdict, measures and measured displacement."""
    return queue.get_item(session, dataset_id, pair)


@router.patch("/datasets/{dataset_id}/pairs/{pair}")
def edit_pair(session: SessionDep, dataset_id: int, pair: int, wanted: PairEdit) -> QueueItem:
    """Fix a pair's text: a new version of it, with the verdict 'fix'. The old one is kept.

    Runs and exports use the newest version; a run that was queued before keeps the one it had.
    """
    deciding.edit(session, dataset_id, pair, wanted)
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
    wanted: ReviewRequest,
    if_match: IfMatch = None,
) -> ReviewOut:
    """Give a verdict. 409, with the verdict that stands as `current`, where another was given."""
    seen = _seen(wanted.version, if_match)
    wanted = wanted.model_copy(update={"version": seen})
    return _tagged(response, deciding.decide(session, dataset_id, pair, wanted))


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
    """Withdraw a verdict. Its history stays."""
    seen = _seen(version, if_match)
    return _tagged(response, deciding.clear(session, dataset_id, pair, seen, reviewer))


@router.get("/datasets/{dataset_id}/pairs/{pair}/review/history")
def get_history(session: SessionDep, dataset_id: int, pair: int) -> History:
    """Every change of a pair's verdict and text, the newest first."""
    return queries.get_history(session, dataset_id, pair)


@router.post("/datasets/{dataset_id}/pairs/{pair}/review/undo")
def undo(
    session: SessionDep,
    response: Response,
    dataset_id: int,
    pair: int,
    wanted: UndoRequest,
    if_match: IfMatch = None,
) -> ReviewOut:
    """Take back the last change, be it a verdict, a note or an edit; again, the one before it."""
    wanted = wanted.model_copy(update={"version": _seen(wanted.version, if_match)})
    return _tagged(response, deciding.undo(session, dataset_id, pair, wanted))


def _tagged(response: Response, review: ReviewOut) -> ReviewOut:
    response.headers["ETag"] = f'"{review.version}"'
    return review


def _seen(version: int | None, if_match: str | None) -> int | None:
    if if_match is None:
        return version
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise InvalidInputError('If-Match must be the version of a verdict, as "3".')
    return int(text)


# --- the queue -----------------------------------------------------------------------------------


@router.get("/datasets/{dataset_id}/reviews")
def list_queue(
    session: SessionDep, dataset_id: int, wanted: Annotated[QueuePageQuery, Query()]
) -> QueuePage:
    """Pairs to review, with all that is known of them."""
    return queue.list_queue(session, dataset_id, wanted)


@router.get("/datasets/{dataset_id}/reviews/order")
def list_order(
    session: SessionDep, dataset_id: int, wanted: Annotated[QueueQuery, Query()]
) -> QueueOrder:
    """The ordinals of all pairs of the queue, in its order."""
    return queue.list_order(session, dataset_id, wanted)


@router.get("/datasets/{dataset_id}/reviews/progress")
def get_progress(session: SessionDep, dataset_id: int) -> ReviewProgress:
    """How far the review is, and how well the reviewers agree."""
    return queries.get_progress(session, dataset_id)


@router.post("/datasets/{dataset_id}/reviews/bulk")
def decide_many(session: SessionDep, dataset_id: int, wanted: BulkRequest) -> BatchOut:
    """Give one verdict to all pairs that a filter leaves. 409 where they are not as many."""
    return bulk.decide_many(session, dataset_id, wanted)


@router.get("/datasets/{dataset_id}/reviews/batches")
def list_batches(session: SessionDep, dataset_id: int) -> BatchList:
    """Verdicts that were given at once, the last first."""
    return queries.list_batches(session, dataset_id)


@router.post("/datasets/{dataset_id}/reviews/batches/{batch_id}/undo")
def undo_many(
    session: SessionDep, dataset_id: int, batch_id: int, reviewer: ReviewerQuery = None
) -> UndoneBatch:
    """Take back verdicts that were given at once. What was changed since stays as it is."""
    return bulk.undo_many(session, dataset_id, batch_id, reviewer)
