"""Each reviewer's last verdict on each pair, and how far reviewers agree (Cohen's kappa)."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import Select, Subquery, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.reviews.schemas import Agreement
from app.store.reviews import ReviewChange


def last_verdicts(dataset_id: int) -> Subquery:
    """Each reviewer's own last verdict on each pair: (pair, reviewer, verdict).

    Undone changes do not count, nor do verdicts without a reviewer's name.
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
        .subquery("latest")
    )
    # Withdrawn verdicts are dropped only now: before, they supersede the reviewer's earlier ones.
    return select(latest).where(latest.c.verdict.is_not(None)).subquery("last_verdicts")


def disputed(dataset_id: int) -> Select[int]:
    """Pairs on which the reviewers' last verdicts differ."""
    verdicts = last_verdicts(dataset_id)
    return (
        select(verdicts.c.pair)
        .group_by(verdicts.c.pair)
        .having(func.count(verdicts.c.verdict.distinct()) > 1)
    )


def list_agreements(session: Session, dataset_id: int) -> list[Agreement]:
    """The agreement of every two reviewers who both gave a verdict on some pair."""
    one = last_verdicts(dataset_id).alias("one")
    other = last_verdicts(dataset_id).alias("other")
    rows = session.execute(
        select(
            one.c.reviewer.label("one"),
            other.c.reviewer.label("other"),
            one.c.verdict.label("one_verdict"),
            other.c.verdict.label("other_verdict"),
            func.count().label("pairs"),
        )
        .join(other, (other.c.pair == one.c.pair) & (one.c.reviewer < other.c.reviewer))
        .group_by(one.c.reviewer, other.c.reviewer, one.c.verdict, other.c.verdict)
    )
    tables: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    for row in rows:
        table = tables.setdefault((row.one, row.other), {})
        table[row.one_verdict, row.other_verdict] = row.pairs
    return [_agreement(reviewers, table) for reviewers, table in sorted(tables.items())]


def _agreement(reviewers: tuple[str, str], table: Mapping[tuple[str, str], int]) -> Agreement:
    return Agreement(
        reviewers=reviewers,
        pairs=sum(table.values()),
        agreed=_agreed(table),
        kappa=cohens_kappa(table),
    )


def _agreed(table: Mapping[tuple[str, str], int]) -> int:
    return sum(count for (one, other), count in table.items() if one == other)


def cohens_kappa(table: Mapping[tuple[str, str], int]) -> float | None:
    """Cohen's kappa: (observed - expected agreement) / (1 - expected agreement).

    table: number of pairs by (one reviewer's verdict, the other's).

    None where both always gave one and the same verdict: kappa is 0/0 there.
    """
    total = sum(table.values())
    one_totals: Counter[str] = Counter()
    other_totals: Counter[str] = Counter()
    for (one, other), count in table.items():
        one_totals[one] += count
        other_totals[other] += count
    # In integers, multiplied by total²: expected agreement is `by_chance` / total².
    by_chance = sum(one_totals[verdict] * other_totals[verdict] for verdict in one_totals)
    if by_chance == total * total:
        return None
    return (_agreed(table) * total - by_chance) / (total * total - by_chance)
