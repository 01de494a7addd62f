"""Reading verdicts: the present one, its history, how far the review is, who agrees with whom."""

from collections import Counter
from collections.abc import Mapping
from typing import get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.errors import NotFoundError
from app.reviews import statements
from app.reviews.queue import require_dataset
from app.reviews.schemas import (
    Agreement,
    BatchList,
    BatchOut,
    History,
    PairVersionOut,
    ReviewChangeOut,
    ReviewerCount,
    ReviewOut,
    ReviewProgress,
)
from app.store.datasets import Pair
from app.store.reviews import PairVersion, Review, ReviewBatch, ReviewChange
from app.store.scores import Flag
from chesboard.configs import Verdict

MAX_BATCHES = 50


def get_review(session: Session, dataset_id: int, pair: int) -> ReviewOut:
    """The present verdict; version 0 where there never was one.

    Raises:
        NotFoundError: no such pair.
    """
    _require_pair(session, dataset_id, pair)
    return ReviewOut.of(pair, session.get(Review, (dataset_id, pair)))


def get_history(session: Session, dataset_id: int, pair: int) -> History:
    """Raises NotFoundError where there is no such pair."""
    _require_pair(session, dataset_id, pair)
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
    return History(
        pair=pair,
        items=[ReviewChangeOut.of(change) for change in changes],
        texts=[PairVersionOut.model_validate(text) for text in texts],
    )


def _require_pair(session: Session, dataset_id: int, pair: int) -> None:
    known = 0 < dataset_id < 2**63 and 0 <= pair < 2**31
    if not known or session.get(Pair, (dataset_id, pair)) is None:
        raise NotFoundError(f"There is no pair {pair} in a dataset {dataset_id}.")


def list_batches(session: Session, dataset_id: int) -> BatchList:
    """Verdicts that were given at once, the last first; at most 50.

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
    """Raises NotFoundError where there is no such dataset."""
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
    disputed = statements.disputed(dataset_id).subquery()
    said = statements.said(dataset_id)
    reviewers = session.execute(
        select(said.c.reviewer, func.count().label("pairs"))
        .group_by(said.c.reviewer)
        .order_by(func.count().desc(), said.c.reviewer)
    )
    return ReviewProgress(
        pairs=dataset.pairs,
        reviewed=sum(verdicts.values()),
        verdicts=verdicts,
        flagged=flagged or 0,
        flagged_reviewed=flagged_reviewed or 0,
        edited=edited or 0,
        disputed=session.scalar(select(func.count()).select_from(disputed)) or 0,
        reviewers=[ReviewerCount(reviewer=row.reviewer, pairs=row.pairs) for row in reviewers],
        agreement=_agreement(session, dataset_id),
    )


def count_verdicts(session: Session, dataset_id: int) -> dict[Verdict, int]:
    """How many pairs have each verdict now; every verdict is there."""
    found = session.execute(
        select(Review.verdict, func.count().label("pairs"))
        .where(Review.dataset_id == dataset_id, Review.verdict.is_not(None))
        .group_by(Review.verdict)
    )
    counts = {row.verdict: row.pairs for row in found}
    return {verdict: counts.get(verdict, 0) for verdict in get_args(Verdict)}


def _agreement(session: Session, dataset_id: int) -> list[Agreement]:
    one, other = (
        statements.said(dataset_id).alias("one"),
        statements.said(dataset_id).alias("other"),
    )
    rows = session.execute(
        select(
            one.c.reviewer.label("one"),
            other.c.reviewer.label("other"),
            one.c.verdict.label("ours"),
            other.c.verdict.label("theirs"),
            func.count().label("pairs"),
        )
        .join(other, (other.c.pair == one.c.pair) & (one.c.reviewer < other.c.reviewer))
        .group_by(one.c.reviewer, other.c.reviewer, one.c.verdict, other.c.verdict)
    )
    tables: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    for row in rows:
        tables.setdefault((row.one, row.other), {})[row.ours, row.theirs] = row.pairs
    return [_agree(couple, table) for couple, table in sorted(tables.items())]


def _agree(couple: tuple[str, str], table: Mapping[tuple[str, str], int]) -> Agreement:
    pairs = sum(table.values())
    agreed = sum(count for (ours, theirs), count in table.items() if ours == theirs)
    return Agreement(reviewers=couple, pairs=pairs, agreed=agreed, kappa=cohens_kappa(table))


def cohens_kappa(table: Mapping[tuple[str, str], int]) -> float | None:
    """(observed - expected agreement) / (1 - expected), of counts by (one's, the other's) verdict.

    None where both always gave one and the same verdict, so that chance explains it all.
    """
    total = sum(table.values())
    ours: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    for (one, other), count in table.items():
        ours[one] += count
        theirs[other] += count
    agreed = sum(count for (one, other), count in table.items() if one == other)
    # In whole numbers: expected agreement is `by_chance` / total^2.
    by_chance = sum(ours[verdict] * theirs[verdict] for verdict in ours)
    if by_chance == total * total:
        return None
    return (agreed * total - by_chance) / (total * total - by_chance)
