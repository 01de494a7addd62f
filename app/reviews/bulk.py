"""One verdict for many pairs, and taking it back, each in one transaction."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Integer,
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
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from app.core.errors import ConflictError, NotFoundError
from app.reviews import queue
from app.reviews.deciding import stands
from app.reviews.schemas import BatchOut, BulkRequest, UndoneBatch
from app.store.datasets import Pair
from app.store.reviews import Review, ReviewBatch, ReviewChange

COLUMNS = ["dataset_id", "pair", "version"]


def decide_many(session: Session, dataset_id: int, wanted: BulkRequest) -> BatchOut:
    """Give one verdict to all pairs that a filter leaves, if they are as many as the user saw.

    Raises:
        NotFoundError: no such dataset.
        InvalidInputError: the filter names a run that is not the dataset's.
        ConflictError: there are more or fewer; `count` says how many.
    """
    meant = queue.filtered(session, dataset_id, wanted.filter)
    ordered = meant.subquery("meant")
    # In the order of the pairs, so that two such requests wait for each other and never cross.
    rows = select(literal(dataset_id), ordered.c.pair, literal(0)).order_by(ordered.c.pair)
    session.execute(insert(Review).from_select(COLUMNS, rows).on_conflict_do_nothing())
    locked = session.scalars(
        select(Review.pair)
        .where(Review.dataset_id == dataset_id, Review.pair.in_(meant))
        .order_by(Review.pair)
        .with_for_update()
    ).all()
    # Asked again: some may have been decided by others before the locks were had.
    pairs = sorted(set(locked) & set(session.scalars(meant)))
    if len(pairs) != wanted.expected_count:
        raise ConflictError(
            f"The filter leaves {len(pairs):,} pairs, not {wanted.expected_count:,} as was "
            "confirmed. Nothing was changed; look at the number and confirm it again.",
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
    these = Review.pair == func.any(cast(pairs, ARRAY(Integer)))
    session.execute(
        update(Review)
        .where(Review.dataset_id == batch.dataset_id, these)
        .values(
            verdict=batch.verdict,
            note=func.coalesce(cast(batch.note, Review.note.type), Review.note),
            reviewer=batch.reviewer,
            version=Review.version + 1,
            updated_at=func.clock_timestamp(),
        )
        .execution_options(synchronize_session=False)
    )
    _record(session, batch, "bulk", select(Review.pair).where(these), batch.reviewer)


def undo_many(
    session: Session, dataset_id: int, batch_id: int, reviewer: str | None
) -> UndoneBatch:
    """Take back verdicts that were given at once, on the pairs that nobody changed since.

    Raises:
        NotFoundError: the dataset has no such batch.
        ConflictError: it was undone before.
    """
    known = 0 < batch_id < 2**63
    batch = session.get(ReviewBatch, batch_id, with_for_update=True) if known else None
    if batch is None or batch.dataset_id != dataset_id:
        raise NotFoundError(f"Dataset {dataset_id} has no verdicts {batch_id} given at once.")
    if batch.undone_at is not None:
        raise ConflictError("These verdicts were taken back before.")
    last = and_(
        ReviewChange.dataset_id == Review.dataset_id,
        ReviewChange.pair == Review.pair,
        ReviewChange.version == Review.version,
    )
    unchanged = session.scalars(
        select(Review.pair)
        .join(ReviewChange, last)
        .where(ReviewChange.batch_id == batch_id, ReviewChange.action == "bulk")
        .order_by(Review.pair)
        .with_for_update(of=Review)
    ).all()
    before = _before(dataset_id, list(unchanged))
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
    these = Review.pair == func.any(cast(list(unchanged), ARRAY(Integer)))
    _record(session, batch, "undo", select(Review.pair).where(these), reviewer or None)
    session.execute(
        update(ReviewChange)
        .where(
            ReviewChange.batch_id == batch_id,
            ReviewChange.action == "bulk",
            ReviewChange.pair == func.any(cast(list(unchanged), ARRAY(Integer))),
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


def _before(dataset_id: int, pairs: list[int]) -> Subquery:
    """For each pair the state below its last standing change; NULLs where there is none."""
    below = (
        select(ReviewChange.verdict, ReviewChange.note, ReviewChange.reviewer)
        .where(
            ReviewChange.dataset_id == dataset_id,
            ReviewChange.pair == Review.pair,
            ReviewChange.version < Review.version,
            stands(),
        )
        .order_by(ReviewChange.version.desc())
        .limit(1)
        .correlate(Review)
        .lateral("below")
    )
    states: Select[Any] = (
        select(Review.pair, below.c.verdict, below.c.note, below.c.reviewer)
        .select_from(Review)
        .outerjoin(below, true())
        .where(
            Review.dataset_id == dataset_id,
            Review.pair == func.any(cast(pairs, ARRAY(Integer))),
        )
    )
    return states.subquery("before")


def _record(
    session: Session, batch: ReviewBatch, action: str, pairs: Select[int], reviewer: str | None
) -> None:
    """One change a pair, with what its review is now."""
    who = cast(reviewer, Review.reviewer.type) if reviewer else null()
    session.execute(
        insert_from(ReviewChange).from_select(
            [
                *COLUMNS,
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
                who,
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
