"""Bulk verdicts: one verdict for all pairs of a filter, and its undo, each in one transaction."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Select,
    Subquery,
    and_,
    cast,
    func,
    literal,
    null,
    select,
    true,
    update,
)
from sqlalchemy import insert as insert_from
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.errors import ConflictError, NotFoundError
from app.reviews.filters import filtered
from app.reviews.schemas import BatchOut, BulkRequest, UndoneBatch
from app.reviews.verdicts import is_standing
from app.store.datasets import Pair
from app.store.lookup import MAX_ID, there_is_no
from app.store.reviews import Review, ReviewBatch, ReviewChange

KEY_COLUMNS = ["dataset_id", "pair", "version"]


def decide_many(session: Session, dataset_id: int, wanted: BulkRequest) -> BatchOut:
    """Give one verdict to all pairs that a filter matches, provided the user saw their number.

    Raises:
        NotFoundError: no such dataset.
        InvalidInputError: the filter names a run of another dataset.
        ConflictError: the filter matches more or fewer; `count` holds the number.
    """
    matching = filtered(session, dataset_id, wanted.filter)
    subquery = matching.subquery("matching")
    # Rows are inserted and locked by ordinal, so that concurrent requests cannot deadlock.
    rows = select(literal(dataset_id), subquery.c.pair, literal(0)).order_by(subquery.c.pair)
    session.execute(insert(Review).from_select(KEY_COLUMNS, rows).on_conflict_do_nothing())
    locked = session.scalars(
        select(Review.pair)
        .where(Review.dataset_id == dataset_id, Review.pair.in_(matching))
        .order_by(Review.pair)
        .with_for_update()
    ).all()
    # Evaluated again under the locks: others may have reviewed some of the pairs before.
    pairs = sorted(set(locked) & set(session.scalars(matching)))
    if len(pairs) != wanted.expected_count:
        raise ConflictError(
            f"The filter matches {len(pairs):,} pairs, not the {wanted.expected_count:,} that were "
            "confirmed. Nothing was changed; check the number and confirm it again.",
            count=len(pairs),
        )
    batch = ReviewBatch(
        dataset_id=dataset_id,
        verdict=wanted.verdict,
        note=wanted.note or None,
        reviewer=wanted.reviewer or None,
        filter=wanted.filter.model_dump(mode="json", exclude_defaults=True),
        pairs=len(pairs),
    )
    session.add(batch)
    session.flush()
    _apply(session, batch, pairs)
    return _batch_out(session, batch)


def _apply(session: Session, batch: ReviewBatch, pairs: list[int]) -> None:
    is_in_batch = among(Review.pair, pairs)
    session.execute(
        update(Review)
        .where(Review.dataset_id == batch.dataset_id, is_in_batch)
        .values(
            verdict=batch.verdict,
            note=func.coalesce(cast(batch.note, Review.note.type), Review.note),
            reviewer=batch.reviewer,
            version=Review.version + 1,
            updated_at=func.clock_timestamp(),
        )
        .execution_options(synchronize_session=False)
    )
    _record(session, batch, "bulk", select(Review.pair).where(is_in_batch), batch.reviewer)


def undo_many(
    session: Session, dataset_id: int, batch_id: int, reviewer: str | None
) -> UndoneBatch:
    """Undo a bulk verdict on those of its pairs that were not changed since.

    Raises:
        NotFoundError: the dataset has no such batch.
        ConflictError: it is already undone.
    """
    known = 0 < batch_id <= MAX_ID
    batch = session.get(ReviewBatch, batch_id, with_for_update=True) if known else None
    if batch is None or batch.dataset_id != dataset_id:
        raise NotFoundError(there_is_no("bulk verdict", f"{batch_id} in dataset {dataset_id}"))
    if batch.undone_at is not None:
        raise ConflictError(f"Bulk verdict {batch_id} is already undone.")
    is_last_change = and_(
        ReviewChange.dataset_id == Review.dataset_id,
        ReviewChange.pair == Review.pair,
        ReviewChange.version == Review.version,
    )
    unchanged = list(
        session.scalars(
            select(Review.pair)
            .join(ReviewChange, is_last_change)
            .where(ReviewChange.batch_id == batch_id, ReviewChange.action == "bulk")
            .order_by(Review.pair)
            .with_for_update(of=Review)
        )
    )
    before = _states_before(dataset_id, unchanged)
    session.execute(
        update(Review)
        .where(Review.dataset_id == dataset_id, Review.pair == before.c.pair)
        .values(
            verdict=before.c.verdict,
            note=before.c.note,
            reviewer=before.c.reviewer,
            version=Review.version + 1,
            updated_at=func.clock_timestamp(),
        )
        .execution_options(synchronize_session=False)
    )
    is_undone = among(Review.pair, unchanged)
    _record(session, batch, "undo", select(Review.pair).where(is_undone), reviewer or None)
    session.execute(
        update(ReviewChange)
        .where(
            ReviewChange.batch_id == batch_id,
            ReviewChange.action == "bulk",
            among(ReviewChange.pair, unchanged),
        )
        .values(undone_by=ReviewChange.version + 1)
        .execution_options(synchronize_session=False)
    )
    batch.undone_at = datetime.now(UTC)
    session.flush()
    return UndoneBatch(
        batch=_batch_out(session, batch),
        undone=len(unchanged),
        kept=batch.pairs - len(unchanged),
    )


def _states_before(dataset_id: int, pairs: list[int]) -> Subquery:
    """Each pair's state before its last standing change; NULLs where there was none."""
    previous = (
        select(ReviewChange.verdict, ReviewChange.note, ReviewChange.reviewer)
        .where(
            ReviewChange.dataset_id == dataset_id,
            ReviewChange.pair == Review.pair,
            ReviewChange.version < Review.version,
            is_standing(),
        )
        .order_by(ReviewChange.version.desc())
        .limit(1)
        .correlate(Review)
        .lateral("previous")
    )
    states: Select[Any] = (
        select(Review.pair, previous.c.verdict, previous.c.note, previous.c.reviewer)
        .select_from(Review)
        .outerjoin(previous, true())
        .where(
            Review.dataset_id == dataset_id,
            among(Review.pair, pairs),
        )
    )
    return states.subquery("before")


def _record(
    session: Session, batch: ReviewBatch, action: str, pairs: Select[int], reviewer: str | None
) -> None:
    """Add one ReviewChange a pair, with the current state of its review."""
    changed_by = cast(reviewer, Review.reviewer.type) if reviewer else null()
    session.execute(
        insert_from(ReviewChange).from_select(
            [
                *KEY_COLUMNS,
                "action",
                "verdict",
                "note",
                "reviewer",
                "pair_version",
                "batch_id",
            ],
            select(
                Review.dataset_id,
                Review.pair,
                Review.version,
                literal(action),
                Review.verdict,
                Review.note,
                changed_by,
                Pair.version,
                literal(batch.id),
            )
            .join(Pair, and_(Pair.dataset_id == Review.dataset_id, Pair.pair == Review.pair))
            .where(Review.dataset_id == batch.dataset_id, Review.pair.in_(pairs)),
        )
    )


def _batch_out(session: Session, batch: ReviewBatch) -> BatchOut:
    session.refresh(batch)
    return BatchOut.model_validate(batch)
