"""What each reviewer has said, in SQL: used by the queue's filters and by the agreement."""

from sqlalchemy import Select, Subquery, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from app.store.reviews import ReviewChange


def said(dataset_id: int) -> Subquery:
    """Each reviewer's own last verdict on each pair: (pair, reviewer, verdict).

    What was taken back does not count, and a verdict without a name is nobody's.
    """
    latest = (
        select(ReviewChange.pair, ReviewChange.reviewer, ReviewChange.verdict)
        .where(
            ReviewChange.dataset_id == dataset_id,
            ReviewChange.action != "undo",
            ReviewChange.undone_by.is_(None),
            ReviewChange.reviewer.is_not(None),
        )
        .ext(distinct_on(ReviewChange.pair, ReviewChange.reviewer))
        .order_by(ReviewChange.pair, ReviewChange.reviewer, ReviewChange.version.desc())
    )
    # A verdict that was withdrawn is a last word too, and says nothing.
    every = latest.subquery("latest")
    stated = select(every).where(every.c.verdict.is_not(None))
    return stated.subquery("said")


def disputed(dataset_id: int) -> Select[int]:
    """Pairs on which the reviewers' last verdicts differ."""
    stated = said(dataset_id)
    return (
        select(stated.c.pair)
        .group_by(stated.c.pair)
        .having(func.count(stated.c.verdict.distinct()) > 1)
    )
