"""Issues of a dataset's pairs in the database: found at the upload, checked again on request.

`chesboard.doctor` finds what the texts show while they pass; what equal pairs show is found here
by their fingerprints, once they are stored.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import psycopg
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from app.datasets.fingerprints import hash_texts
from app.store.datasets import Dataset, Pair, PairIssue
from app.store.issues import CHECKS, CHECKS_KEY, checks_of, count_issues
from chesboard.doctor.checks import check_pair
from chesboard.doctor.examination import Conventions, Examination, IssueOfPair
from chesboard.issues import IssueKind

ROWS = 500
"""Pairs that are fetched at a time when a dataset is checked again."""
_COPY = "COPY pair_issues (dataset_id, issue, pair, other, detail) FROM STDIN"

_DUPLICATES = text("""
    INSERT INTO pair_issues (dataset_id, issue, pair, other)
    SELECT :dataset, 'duplicate', pair, first
    FROM (SELECT pair, min(pair) OVER (PARTITION BY fingerprint) AS first
          FROM pairs WHERE dataset_id = :dataset) AS marked
    WHERE pair <> first
""")

_CONTRADICTIONS = text("""
    INSERT INTO pair_issues (dataset_id, issue, pair, other)
    SELECT :dataset, 'contradiction', pair, other
    FROM (SELECT pair,
                 CASE fingerprint & 1
                     WHEN 1 THEN min(pair) FILTER (WHERE fingerprint & 1 = 0) OVER swapped
                     ELSE min(pair) FILTER (WHERE fingerprint & 1 = 1) OVER swapped
                 END AS other
          FROM pairs WHERE dataset_id = :dataset
          WINDOW swapped AS (PARTITION BY fingerprint >> 1)) AS marked
    WHERE other IS NOT NULL
""")


def store_issues(
    session: Session, dataset_id: int, examination: Examination
) -> tuple[dict[IssueKind, int], dict[str, Any]]:
    """Store the issues of a dataset that has none stored.

    Returns:
        The number of pairs by kind, and what the dataset was checked by, for its statistics.
    """
    of = {"dataset": dataset_id}
    session.execute(_DUPLICATES, of)
    session.execute(_CONTRADICTIONS, of)
    _copy(session, dataset_id, examination.issues())
    checks = {
        "version": CHECKS,
        "at": datetime.now(UTC).isoformat(),
        "conventions": examination.conventions().as_dict(),
        "hints": examination.tally.hints(),
    }
    return count_issues(session, dataset_id), checks


def _copy(session: Session, dataset_id: int, issues: Iterator[IssueOfPair]) -> None:
    connection = cast(psycopg.Connection[Any], session.connection().connection.driver_connection)
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for issue in issues:
            copy.write_row((dataset_id, *issue))


def check_again(session: Session, dataset: Dataset) -> None:
    """Find the issues of a stored dataset anew, by the current texts of its pairs.

    The dataset's row is locked by the caller, so that two checks do not interleave.
    """
    examination = Examination()
    fingerprints: list[dict[str, int]] = []
    query = (
        select(Pair.pair, Pair.prompt, Pair.preferred, Pair.dispreferred, Pair.meta)
        .add_columns(Pair.fingerprint)
        .where(Pair.dataset_id == dataset.id)
        .order_by(Pair.pair)
        .execution_options(yield_per=ROWS)
    )
    for row in session.execute(query):
        hashes = hash_texts(row.prompt, row.preferred, row.dispreferred)
        examination.see(row.prompt, row.preferred, row.dispreferred, row.meta, hashes.short())
        if row.fingerprint != hashes.fingerprint():  # of an earlier version, or edited
            changed = {"dataset_id": dataset.id, "pair": row.pair}
            fingerprints.append({**changed, "fingerprint": hashes.fingerprint()})
    if fingerprints:
        session.execute(update(Pair), fingerprints)
    session.execute(delete(PairIssue).where(PairIssue.dataset_id == dataset.id))
    issues, checks = store_issues(session, dataset.id, examination)
    dataset.statistics = {
        **dataset.statistics,
        "duplicates": issues["duplicate"],
        "issues": issues,
        CHECKS_KEY: checks,
    }
    session.flush()


def check_edited(session: Session, row: Pair) -> None:
    """Find the issues of one pair anew, whose texts were edited.

    Only those that it shows by itself: which other pairs it repeats or contradicts now, the next
    check of the dataset finds.
    """
    checks = checks_of(session.get_one(Dataset, row.dataset_id))
    if checks["version"] != CHECKS:
        return
    row.fingerprint = hash_texts(row.prompt, row.preferred, row.dispreferred).fingerprint()
    session.execute(
        delete(PairIssue).where(PairIssue.dataset_id == row.dataset_id, PairIssue.pair == row.pair)
    )
    conventions = Conventions(**checks["conventions"])
    found = check_pair(row.prompt, row.preferred, row.dispreferred, row.meta).found
    issues = {one.kind: one.detail for one in found if conventions.confirms(one)}
    session.add_all(
        PairIssue(dataset_id=row.dataset_id, issue=kind, pair=row.pair, detail=detail)
        for kind, detail in issues.items()
    )
    session.flush()
