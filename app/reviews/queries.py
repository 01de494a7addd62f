"""Reading reviews: a pair's verdict and history, batches, and a dataset's progress."""

from typing import get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.reviews.agreement import disputed, last_verdicts, list_agreements
from app.reviews.schemas import (
    BatchList,
    BatchOut,
    DroppedOut,
    History,
    PairVersionOut,
    ReviewChangeOut,
    ReviewerCount,
    ReviewOut,
    ReviewProgress,
)
from app.store.filtering import FilterDecision
from app.store.lookup import require_dataset, require_pair
from app.store.reviews import PairVersion, Review, ReviewBatch, ReviewChange
from app.store.runs import Run
from app.store.scores import Flag
from chesboard.configs import Verdict

MAX_BATCHES = 50


def get_review(session: Session, dataset_id: int, pair: int) -> ReviewOut:
    """The current verdict; version 0 if the pair was never reviewed.

    Raises:
        NotFoundError: no such pair.
    """
    require_pair(session, dataset_id, pair)
    return ReviewOut.of(pair, session.get(Review, (dataset_id, pair)))


def get_history(session: Session, dataset_id: int, pair: int) -> History:
    """Raises:
    NotFoundError: no such pair.
    """
    require_pair(session, dataset_id, pair)
    changes = session.scalars(
        select(ReviewChange)
        .where(ReviewChange.dataset_id == dataset_id, ReviewChange.pair == pair)
        .order_by(ReviewChange.version.desc())
    )
    texts = session.scalars(
        select(PairVersion)
        .where(PairVersion.dataset_id == dataset_id, PairVersion.pair == pair)
        .order_by(PairVersion.version.desc())
    )
    dropped = session.execute(
        select(
            FilterDecision.run_id,
            Run.name.label("run_name"),
            FilterDecision.epoch,
            FilterDecision.text,
            FilterDecision.sample_reward,
            FilterDecision.preferred_reward,
        )
        .join(Run, Run.id == FilterDecision.run_id)
        .where(
            Run.dataset_id == dataset_id,
            FilterDecision.pair == pair,
            FilterDecision.kept.is_(False),
        )
        .order_by(FilterDecision.run_id.desc())
    )
    return History(
        pair=pair,
        dropped=[DroppedOut.model_validate(one) for one in dropped],
        items=[ReviewChangeOut.of(change) for change in changes],
        texts=[PairVersionOut.model_validate(text) for text in texts],
    )


def list_batches(session: Session, dataset_id: int) -> BatchList:
    """Bulk verdicts, newest first; at most MAX_BATCHES.

    Raises:
        NotFoundError: no such dataset.
    """
    require_dataset(session, dataset_id)
    found = session.scalars(
        select(ReviewBatch)
        .where(ReviewBatch.dataset_id == dataset_id)
        .order_by(ReviewBatch.id.desc())
        .limit(MAX_BATCHES)
    )
    return BatchList(items=[BatchOut.model_validate(batch) for batch in found])


def get_progress(session: Session, dataset_id: int) -> ReviewProgress:
    """Raises:
    NotFoundError: no such dataset.
    """
    dataset = require_dataset(session, dataset_id)
    verdicts = count_verdicts(session, dataset_id)
    flags = select(Flag.pair).where(Flag.dataset_id == dataset_id)
    flagged = session.scalar(select(func.count()).select_from(flags.subquery()))
    flagged_reviewed = session.scalar(
        select(func.count()).where(
            Review.dataset_id == dataset_id,
            Review.verdict.is_not(None),
            Review.pair.in_(flags),
        )
    )
    edited = session.scalar(
        select(func.count(PairVersion.pair.distinct())).where(PairVersion.dataset_id == dataset_id)
    )
    disagreements = disputed(dataset_id).subquery()
    stated = last_verdicts(dataset_id)
    reviewers = session.execute(
        select(stated.c.reviewer, func.count().label("pairs"))
        .group_by(stated.c.reviewer)
        .order_by(func.count().desc(), stated.c.reviewer)
    )
    return ReviewProgress(
        pairs=dataset.pairs,
        reviewed=sum(verdicts.values()),
        verdicts=verdicts,
        flagged=flagged or 0,
        flagged_reviewed=flagged_reviewed or 0,
        edited=edited or 0,
        disputed=session.scalar(select(func.count()).select_from(disagreements)) or 0,
        reviewers=[ReviewerCount(reviewer=row.reviewer, pairs=row.pairs) for row in reviewers],
        agreement=list_agreements(session, dataset_id),
    )


def count_verdicts(session: Session, dataset_id: int) -> dict[Verdict, int]:
    """The number of pairs with each verdict at present, zeros included."""
    found = session.execute(
        select(Review.verdict, func.count().label("pairs"))
        .where(Review.dataset_id == dataset_id, Review.verdict.is_not(None))
        .group_by(Review.verdict)
    )
    counts = {row.verdict: row.pairs for row in found}
    return {verdict: counts.get(verdict, 0) for verdict in get_args(Verdict)}
