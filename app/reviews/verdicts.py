"""Setting, withdrawing and undoing a pair's verdict, and editing its text; changes are kept.

Reviews use optimistic concurrency control: a request names the version that its user saw. The
review's row is locked while it changes, and a request with an outdated version gets a conflict
with the current verdict.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.errors import ConflictError
from app.reviews import texts
from app.reviews.schemas import PairEdit, ReviewOut, ReviewRequest, UndoRequest
from app.store.datasets import Pair
from app.store.lookup import require_pair
from app.store.reviews import Review, ReviewChange


def decide(session: Session, dataset_id: int, pair: int, wanted: ReviewRequest) -> ReviewOut:
    """Set a pair's verdict. Idempotent: repeating a request changes nothing, so it can be retried.

    Raises:
        NotFoundError: no such pair.
        ConflictError: the verdict changed since the version that was seen; `current` holds it.
    """
    row = require_pair(session, dataset_id, pair)
    review = _lock_review(session, row)
    keeps_note = "note" not in wanted.model_fields_set
    note = review.note if keeps_note else (wanted.note or None)
    state = (wanted.verdict, note, wanted.reviewer or None)
    if review.version and state == (review.verdict, review.note, review.reviewer):
        return ReviewOut.of(pair, review)
    _check_version(review, wanted.version, wanted.reviewer)
    _change(session, review, "set", *state, pair_version=row.version)
    return ReviewOut.of(pair, review)


def clear(
    session: Session, dataset_id: int, pair: int, version: int | None, reviewer: str | None
) -> ReviewOut:
    """Withdraw a verdict; its history stays.

    Raises:
        NotFoundError: no such pair.
        ConflictError: there is none, or it changed since the version that was seen.
    """
    row = require_pair(session, dataset_id, pair)
    review = _lock_review(session, row)
    if review.verdict is None and review.note is None:
        raise ConflictError(f"Pair {pair} has no verdict to withdraw.")
    _check_version(review, version, reviewer)
    _change(session, review, "clear", None, None, reviewer or None, pair_version=row.version)
    return ReviewOut.of(pair, review)


def undo(session: Session, dataset_id: int, pair: int, wanted: UndoRequest) -> ReviewOut:
    """Undo the last standing change: verdict and note, and for an edit also the text.

    Raises:
        NotFoundError: no such pair.
        ConflictError: there is nothing to undo, or the review changed since the version seen.
    """
    row = require_pair(session, dataset_id, pair)
    review = _lock_review(session, row)
    standing = session.scalars(
        select(ReviewChange)
        .where(ReviewChange.dataset_id == dataset_id, ReviewChange.pair == pair, is_standing())
        .order_by(ReviewChange.version.desc())
        .limit(2)
    ).all()
    if not standing:
        raise ConflictError(f"Pair {pair} has no change to undo.")
    _check_version(review, wanted.version, wanted.reviewer)
    last = standing[0]
    before = standing[1] if len(standing) > 1 else None
    if last.action == "edit":
        texts.restore(session, row, last.pair_version - 1, wanted.reviewer)
    state = (before.verdict, before.note) if before else (None, None)
    _change(session, review, "undo", *state, wanted.reviewer or None, pair_version=row.version)
    review.reviewer = before.reviewer if before else None
    last.undone_by = review.version
    session.flush()
    return ReviewOut.of(pair, review)


def edit(session: Session, dataset_id: int, pair: int, wanted: PairEdit) -> ReviewOut:
    """Replace a pair's texts by a new version, with the verdict 'fix'.

    Raises:
        NotFoundError: no such pair.
        ConflictError: it was edited since the version that was seen; `current` holds its text.
        InvalidInputError: a text is empty, the responses are identical, or nothing changes.
    """
    row = require_pair(session, dataset_id, pair)
    review = _lock_review(session, row)
    if wanted.version != row.version:
        raise ConflictError(
            f"Pair {pair} was edited in the meantime. Check its current text, then edit version "
            f"{row.version}.",
            current={
                "text_version": row.version,
                "prompt": row.prompt,
                "preferred": row.preferred,
                "dispreferred": row.dispreferred,
            },
        )
    new = texts.check_edit(row, wanted)
    texts.replace(session, row, *new, wanted.reviewer)
    note = wanted.note or None if "note" in wanted.model_fields_set else review.note
    _change(session, review, "edit", "fix", note, wanted.reviewer or None, pair_version=row.version)
    return ReviewOut.of(pair, review)


def is_standing() -> Any:
    """SQL condition on a ReviewChange: it is in effect, neither undone nor an undo itself."""
    return and_(ReviewChange.action != "undo", ReviewChange.undone_by.is_(None))


def _lock_review(session: Session, row: Pair) -> Review:
    """The pair's review, FOR UPDATE; version 0 if it is new. Refreshes the pair under the lock."""
    empty = insert(Review).values(dataset_id=row.dataset_id, pair=row.pair, version=0)
    session.execute(empty.on_conflict_do_nothing())
    key = (row.dataset_id, row.pair)
    review = session.get_one(Review, key, with_for_update=True, populate_existing=True)
    session.refresh(row)
    return review


def _check_version(review: Review, seen: int | None, reviewer: str | None) -> None:
    """Without a version, only the reviewer's own verdict may be replaced."""
    if seen is None:
        is_current = review.verdict is None or review.reviewer == (reviewer or None)
    else:
        is_current = seen == review.version
    if not is_current:
        raise ConflictError(
            f"{_describe(review)} Check it, then repeat the request with version {review.version}.",
            current=ReviewOut.of(review.pair, review).model_dump(mode="json"),
        )


def _describe(review: Review) -> str:
    who = review.reviewer or "Someone"
    if review.verdict is None:
        return f"The verdict on pair {review.pair} was withdrawn in the meantime."
    note = f" (“{review.note}”)" if review.note else ""
    return f"{who} gave pair {review.pair} the verdict “{review.verdict}”{note}."


def _change(
    session: Session,
    review: Review,
    action: str,
    verdict: str | None,
    note: str | None,
    reviewer: str | None,
    *,
    pair_version: int,
) -> None:
    review.version += 1
    review.verdict, review.note, review.reviewer = verdict, note, reviewer
    review.updated_at = datetime.now(UTC)
    session.add(
        ReviewChange(
            dataset_id=review.dataset_id,
            pair=review.pair,
            version=review.version,
            action=action,
            verdict=verdict,
            note=note,
            reviewer=reviewer,
            pair_version=pair_version,
        )
    )
    session.flush()
