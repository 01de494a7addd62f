"""The data doctor's answer: issues by kind with examples, hints, and findings under a model."""

from collections.abc import Sequence
from datetime import datetime
from typing import get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.datasets.issues import check_again
from app.doctor.excerpts import excerpts
from app.doctor.schemas import DoctorOut, ExampleOut, IssueKindOut
from app.doctor.under_model import under_model
from app.store.datasets import Dataset, Pair, PairIssue
from app.store.issues import CHECKS, checks_of, count_issues, is_checked, with_issue
from app.store.lookup import require_dataset
from app.store.reviews import PairVersion
from chesboard.issues import ISSUES, IssueKind, Severity

EXAMPLES = 5
"""Examples of a kind."""


def examine(session: Session, dataset_id: int, model: str | None = None) -> DoctorOut:
    """What is known of a dataset's pairs; with a model, also what a run found under it.

    Raises:
        NotFoundError: no such dataset.
    """
    dataset = require_dataset(session, dataset_id)
    checks = checks_of(dataset)
    checked_at = datetime.fromisoformat(checks["at"]) if "at" in checks else None
    counts = count_issues(session, dataset_id)
    kinds = [_kind(session, dataset, kind, counts[kind]) for kind in ISSUES]
    return DoctorOut(
        dataset_id=dataset_id,
        pairs=dataset.pairs,
        with_issues=_count_pairs(session, dataset_id, list(ISSUES)),
        by_severity=_by_severity(session, dataset_id),
        is_current=checks["version"] == CHECKS,
        checked_at=checked_at,
        edited=_edited_since(session, dataset_id, checked_at) if checked_at else 0,
        kinds=sorted(kinds, key=lambda one: -(one.count or 0)),
        hints=checks.get("hints", []),
        warnings=list(dataset.statistics.get("warnings", ())),
        rejected=dataset.statistics.get("rejected", {}),
        under_model=under_model(session, dataset_id, model) if model else None,
    )


def _by_severity(session: Session, dataset_id: int) -> dict[Severity, int]:
    kinds: dict[Severity, list[IssueKind]] = {level: [] for level in get_args(Severity)}
    for kind, issue in ISSUES.items():
        kinds[issue.severity].append(kind)
    return {level: _count_pairs(session, dataset_id, some) for level, some in kinds.items()}


def _count_pairs(session: Session, dataset_id: int, kinds: Sequence[IssueKind]) -> int:
    """The number of pairs with at least one issue of these kinds."""
    found = with_issue(dataset_id, kinds).distinct().subquery("found")
    return session.scalar(select(func.count()).select_from(found)) or 0


def check_dataset(session: Session, dataset_id: int) -> None:
    """Check all pairs of a dataset again.

    Raises:
        NotFoundError: no such dataset.
    """
    check_again(session, require_dataset(session, dataset_id, lock=True))


def _kind(session: Session, dataset: Dataset, kind: IssueKind, count: int) -> IssueKindOut:
    issue = ISSUES[kind]
    return IssueKindOut(
        kind=kind,
        label=issue.label,
        severity=issue.severity,
        help=issue.help,
        advice=issue.advice,
        count=count if is_checked(dataset, kind) else None,
        pairs_url=f"/api/v1/datasets/{dataset.id}/pairs?issue={kind}",
        examples=_examples(session, dataset.id, kind) if count else [],
    )


def _examples(session: Session, dataset_id: int, kind: IssueKind) -> list[ExampleOut]:
    rows = session.execute(
        select(
            *(PairIssue.pair, PairIssue.other, PairIssue.detail),
            *(Pair.prompt, Pair.preferred, Pair.dispreferred, Pair.meta),
        )
        .join(Pair, (Pair.dataset_id == PairIssue.dataset_id) & (Pair.pair == PairIssue.pair))
        .where(PairIssue.dataset_id == dataset_id, PairIssue.issue == kind)
        .order_by(PairIssue.pair)
        .limit(EXAMPLES)
    )
    examples = []
    for row in rows:
        texts = excerpts(kind, row.detail, row.prompt, row.preferred, row.dispreferred)
        prompt, preferred, dispreferred = texts
        examples.append(
            ExampleOut(
                pair=row.pair,
                row=row.meta.get("row"),
                other=row.other,
                detail=row.detail,
                prompt=prompt,
                preferred=preferred,
                dispreferred=dispreferred,
            )
        )
    return examples


def _edited_since(session: Session, dataset_id: int, moment: datetime) -> int:
    edited = select(func.count(PairVersion.pair.distinct())).where(
        PairVersion.dataset_id == dataset_id,
        PairVersion.version > 1,
        PairVersion.created_at > moment,
    )
    return session.scalar(edited) or 0
