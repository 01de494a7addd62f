"""Issues of a dataset's pairs: duplicates, contradictions and overlong texts."""

import hashlib
import json
from array import array
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from chesboard.pairs import Prompt

Issue = Literal["duplicate", "contradiction", "long"]
ISSUES: tuple[Issue, ...] = ("duplicate", "contradiction", "long")

ISSUES_IN_WORDS = {
    "duplicate": "the same prompt and responses as an earlier pair",
    "contradiction": "the same prompt and responses as another pair, with the opposite preference",
    "long": "a prompt or response that runs truncate with their default limits",
}


def fingerprint(prompt: Prompt, preferred: str, dispreferred: str) -> int:
    """A hash of 63 bits of the prompt and the unordered responses, and one bit for their order.

    Among a million different pairs, the probability of a collision is about 1 in 10^7.
    """
    first, second = sorted((preferred, dispreferred))
    digest = hashlib.blake2b(digest_size=8)
    for part in (json.dumps(prompt), first, second):
        digest.update(hashlib.blake2b(part.encode(), digest_size=16).digest())
    return int.from_bytes(digest.digest(), "big", signed=True) & ~1 | (preferred == first)


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

_LONG = text("""
    INSERT INTO pair_issues (dataset_id, issue, pair)
    SELECT :dataset, 'long', unnest(CAST(:pairs AS integer[]))
""")

_COUNTS = text(
    "SELECT issue, count(*) AS pairs FROM pair_issues WHERE dataset_id = :dataset GROUP BY issue"
)


def find_issues(session: Session, dataset_id: int, long: "array[int]") -> dict[str, int]:
    """Store the issues of a new dataset; returns the number of pairs by issue."""
    of: dict[str, Any] = {"dataset": dataset_id}
    session.execute(_DUPLICATES, of)
    session.execute(_CONTRADICTIONS, of)
    if long:
        session.execute(_LONG, {**of, "pairs": long.tolist()})
    counts = {row.issue: row.pairs for row in session.execute(_COUNTS, of)}
    return {issue: counts.get(issue, 0) for issue in ISSUES}
