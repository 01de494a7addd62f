"""Giving verdicts, taking them back and editing pairs, with every change kept.

Several people may review at once. A verdict's row is locked while it changes, and whoever has
not seen the present verdict is told of it in place of overwriting it.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.errors import ConflictError, NotFoundError
from app.reviews import texts
from app.reviews.schemas import PairEdit, ReviewOut, ReviewRequest, UndoRequest
from app.store.datasets import Pair
from app.store.reviews import Review, ReviewChange


def decide(session: Session, dataset_id: int, pair: int, wanted: ReviewRequest) -> ReviewOut:
    """Give a verdict. The same one again changes nothing, so a lost answer can be asked for again.

    Raises:
        NotFoundError: no such pair.
        ConflictError: another verdict stands than the one that was seen; `current` is that one.
    """
    row = _pair(session, dataset_id, pair)
    review = _locked(session, row)
    keeps_note = "note" not in wanted.model_fields_set
    note = review.note if keeps_note else (wanted.note or None)
    state = (wanted.verdict, note, wanted.reviewer or None)
    if review.version and state == (review.verdict, review.note, review.reviewer):
        return ReviewOut.of(pair, review)
    _check_seen(review, wanted.version, wanted.reviewer)
    _change(session, review, "set", *state, pair_version=row.version)
    return ReviewOut.of(pair, review)


def clear(
    session: Session, dataset_id: int, pair: int, version: int | None, reviewer: str | None
) -> ReviewOut:
    """Withdraw a verdict; its history stays.

    Raises:
        NotFoundError: no such pair.
        ConflictError: there is none, or another than the one that was seen.
    """
    row = _pair(session, dataset_id, pair)
    review = _locked(session, row)
    if review.verdict is None and review.note is None:
        raise ConflictError(f"Pair {pair} has no verdict to withdraw.")
    _check_seen(review, version, reviewer)
    _change(session, review, "clear", None, None, reviewer or None, pair_version=row.version)
    return ReviewOut.of(pair, review)


def undo(session: Session, dataset_id: int, pair: int, wanted: UndoRequest) -> ReviewOut:
    """Take back the last change that stands: verdict and note, and of an edit also the text.

    Raises:
        NotFoundError: no such pair.
        ConflictError: nothing is left to undo, or another has changed it since.
    """
    row = _pair(session, dataset_id, pair)
    review = _locked(session, row)
    standing = session.scalars(
        select(ReviewChange)
        .where(ReviewChange.dataset_id == dataset_id, ReviewChange.pair == pair, stands())
        .order_by(ReviewChange.version.desc())
        .limit(2)
    ).all()
    if not standing:
        raise ConflictError(f"Nothing was done to pair {pair} that could be undone.")
    _check_seen(review, wanted.version, wanted.reviewer)
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
    """Give a pair new texts as a new version, with the verdict 'fix'.

    Raises:
        NotFoundError: no such pair.
        ConflictError: it was edited since; `current` has the text that stands now.
        InvalidInputError: a text is empty, both responses are the same, or nothing is new.
    """
    row = _pair(session, dataset_id, pair)
    review = _locked(session, row)
    if wanted.version != row.version:
        raise ConflictError(
            f"Pair {pair} was edited in the meantime. Look at its text, then edit version "
            f"{row.version}.",
            current={
                "text_version": row.version,
                "prompt": row.prompt,
                "preferred": row.preferred,
                "dispreferred": row.dispreferred,
            },
        )
    new = texts.checked(row, wanted)
    texts.replace(session, row, *new, wanted.reviewer)
    note = wanted.note or None if "note" in wanted.model_fields_set else review.note
    _change(session, review, "edit", "fix", note, wanted.reviewer or None, pair_version=row.version)
    return ReviewOut.of(pair, review)


def stands() -> Any:
    return and_(ReviewChange.action != "undo", ReviewChange.undone_by.is_(None))


def _pair(session: Session, dataset_id: int, pair: int) -> Pair:
    known = 0 < dataset_id < 2**63 and 0 <= pair < 2**31
    row = session.get(Pair, (dataset_id, pair)) if known else None
    if row is None:
        raise NotFoundError(f"There is no pair {pair} in a dataset {dataset_id}.")
    return row


def _locked(session: Session, row: Pair) -> Review:
    """The pair's review, locked; version 0 where there was none. The pair is read anew."""
    first = insert(Review).values(dataset_id=row.dataset_id, pair=row.pair, version=0)
    session.execute(first.on_conflict_do_nothing())
    key = (row.dataset_id, row.pair)
    review = session.get_one(Review, key, with_for_update=True, populate_existing=True)
    session.refresh(row)
    return review


def _check_seen(review: Review, seen: int | None, reviewer: str | None) -> None:
    if seen is None:
        is_seen = review.verdict is None or review.reviewer == (reviewer or None)
    else:
        is_seen = seen == review.version
    if not is_seen:
        raise ConflictError(
            f"{_in_words(review)} Look at that, then decide again with version {review.version}.",
            current=ReviewOut.of(review.pair, review).model_dump(mode="json"),
        )


def _in_words(review: Review) -> str:
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
