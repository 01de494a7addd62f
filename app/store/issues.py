"""The issues of pairs, as what a dataset was checked for and as conditions in SQL."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from app.core.errors import invalid_field
from app.store.datasets import Dataset, PairIssue
from chesboard.issues import ISSUES, IssueKind

CHECKS = 1
"""Version of the checks. Increase it when a kind is added or a check changes, so that datasets
that were checked before are checked again."""
CHECKS_KEY = "checks"
"""Under this key a dataset's statistics say what it was checked by: {version, at, ...}."""
_FIRST_KINDS: frozenset[IssueKind] = frozenset({"duplicate", "contradiction", "long"})
"""What datasets were checked for before the checks had a version."""


def checks_of(dataset: Dataset) -> dict[str, Any]:
    """What the dataset was checked by; version 0 if that was before the checks had one."""
    return {"version": 0, **dataset.statistics.get(CHECKS_KEY, {})}


def is_checked(dataset: Dataset, kind: IssueKind) -> bool:
    return checks_of(dataset)["version"] == CHECKS or (
        kind in _FIRST_KINDS and kind in dataset.statistics.get("issues", {})
    )


def require_checked(dataset: Dataset, kinds: Sequence[IssueKind], field: str) -> None:
    """Refuse to select by kinds for which the dataset was not checked: none would be found.

    Raises:
        InvalidInputError: names the field of the request.
    """
    missing = [ISSUES[kind].label for kind in kinds if not is_checked(dataset, kind)]
    if not missing:
        return
    message = (
        f"The dataset has not been checked for “{'”, “'.join(missing)}” yet: it was stored by an "
        "earlier version. Choose “Check now” in its data doctor (POST "
        f"/datasets/{dataset.id}/doctor), then try again."
    )
    raise invalid_field(field, message)


def with_issue(dataset_id: int, kinds: Sequence[str]) -> Select[int]:
    """The pairs with an issue of one of these kinds."""
    return select(PairIssue.pair).where(
        PairIssue.dataset_id == dataset_id, PairIssue.issue.in_(list(kinds))
    )


def count_issues(session: Session, dataset_id: int) -> dict[IssueKind, int]:
    """The number of pairs by kind at present, zeros included."""
    rows = session.execute(
        select(PairIssue.issue, func.count().label("pairs"))
        .where(PairIssue.dataset_id == dataset_id)
        .group_by(PairIssue.issue)
    )
    counts = {row.issue: row.pairs for row in rows}
    return {kind: counts.get(kind, 0) for kind in ISSUES}
