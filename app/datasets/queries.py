"""Queries of datasets, their pairs and their rejected rows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, null, select
from sqlalchemy.orm import Session

from app.core.errors import ConflictError, NotFoundError
from app.core.text import clip_prompt, clip_text
from app.datasets.schemas import (
    DatasetOut,
    PairOut,
    PairPage,
    PairText,
    PairTexts,
    RejectionOut,
    RejectionPage,
)
from app.store.datasets import Dataset, Pair, PairIssue, Rejection
from app.store.lookup import require_dataset
from app.store.runs import Run
from chesboard.formats.rows import Reason
from chesboard.issues import IssueKind

CLIPPED_COLUMNS = 40
MAX_RUNS_NAMED = 10


def list_datasets(session: Session) -> list[DatasetOut]:
    """All datasets, the newest first."""
    found = session.scalars(select(Dataset).order_by(Dataset.id.desc()))
    return [DatasetOut.model_validate(dataset) for dataset in found]


def get_dataset(session: Session, dataset_id: int) -> DatasetOut:
    """Raises:
    NotFoundError: no such dataset.
    """
    return DatasetOut.model_validate(require_dataset(session, dataset_id))


def find_by_sha256(session: Session, sha256: str, member: str | None = None) -> list[Dataset]:
    """The datasets made from the file with this hash, and from this member, the oldest first."""
    query = select(Dataset).where(Dataset.source_sha256 == sha256).order_by(Dataset.id)
    if member is not None:
        query = query.where(Dataset.statistics["member"].as_string() == member)
    return list(session.scalars(query))


def find_by_hub(
    session: Session, name: str, config: str, split: str, revision: str
) -> list[Dataset]:
    """The datasets made from this split of this commit on the hub, the oldest first."""
    query = select(Dataset).where(
        Dataset.hub_name == name,
        Dataset.hub_config == config,
        Dataset.hub_split == split,
        Dataset.hub_revision == revision,
    )
    return list(session.scalars(query.order_by(Dataset.id)))


def list_pairs(
    session: Session,
    dataset_id: int,
    offset: int,
    limit: int,
    *,
    issue: IssueKind | None = None,
    clip: int | None = None,
) -> PairPage:
    """Pairs `offset` to `offset + limit`, in the file's order; with `issue`, of those with it.

    clip: maximum characters of each text, which bounds the size of a page.

    Raises:
        NotFoundError: no such dataset.
    """
    total = require_dataset(session, dataset_id).pairs
    if issue is None:
        # Ordinals have no gaps: the offset is an ordinal, found by the primary key.
        query: Any = (
            select(Pair, null(), null())
            .where(Pair.dataset_id == dataset_id, Pair.pair >= min(offset, total))
            .order_by(Pair.pair)
        )
    else:
        having = PairIssue.dataset_id == dataset_id, PairIssue.issue == issue
        total = session.scalar(select(func.count()).select_from(PairIssue).where(*having)) or 0
        query = (
            select(Pair, PairIssue.other, PairIssue.detail)
            .join(Pair, (Pair.dataset_id == dataset_id) & (Pair.pair == PairIssue.pair))
            .where(*having)
            .order_by(PairIssue.pair)
            .offset(min(offset, total))
        )
    items = []
    for pair, other, detail in session.execute(query.limit(limit)):
        item = PairOut.model_validate(pair)
        # Fields that were not requested stay unset, and are not sent.
        if issue is not None:
            item = item.model_copy(update={"other": other, "detail": detail})
        items.append(item if clip is None else _clipped(item, clip))
    return PairPage(total=total, items=items)


def read_texts(session: Session, dataset_id: int, pairs: Sequence[int]) -> PairTexts:
    """The texts of these pairs, in this order.

    Raises:
        NotFoundError: no such dataset, or it has no such pair.
    """
    dataset = require_dataset(session, dataset_id)
    found = session.scalars(select(Pair).where(Pair.dataset_id == dataset_id, Pair.pair.in_(pairs)))
    known = {one.pair: one for one in found}
    if missing := [pair for pair in pairs if pair not in known]:
        raise NotFoundError(
            f"Dataset {dataset_id} (“{dataset.name}”) has no pair {missing[0]}: it has "
            f"{dataset.pairs:,}, counted from 0."
        )
    return PairTexts(items=[PairText.model_validate(known[pair]) for pair in pairs])


def _clipped(pair: PairOut, characters: int) -> PairOut:
    cut = {
        "prompt": clip_prompt(pair.prompt, characters),
        "preferred": clip_text(pair.preferred, characters),
        "dispreferred": clip_text(pair.dispreferred, characters),
    }
    is_clipped = any(getattr(pair, name) != value for name, value in cut.items())
    # Other columns can be as long as the texts; a listing needs only short ones.
    meta = {
        name: value if not isinstance(value, str) else clip_text(value, characters)
        for name, value in list(pair.meta.items())[:CLIPPED_COLUMNS]
        if not isinstance(value, list | dict)
    }
    return pair.model_copy(update={**cut, "is_clipped": is_clipped, "meta": meta})


def list_rejections(
    session: Session, dataset_id: int, offset: int, limit: int, *, reason: Reason | None = None
) -> RejectionPage:
    """Rejected rows, in the file's order.

    Raises:
        NotFoundError: no such dataset.
    """
    require_dataset(session, dataset_id)
    found = [Rejection.dataset_id == dataset_id]
    if reason is not None:
        found.append(Rejection.reason == reason)
    total = session.scalar(select(func.count()).select_from(Rejection).where(*found)) or 0
    rows = session.scalars(
        select(Rejection)
        .where(*found)
        .order_by(Rejection.number)
        .offset(min(offset, total))
        .limit(limit)
    )
    return RejectionPage(total=total, items=[RejectionOut.model_validate(row) for row in rows])


def delete_dataset(session: Session, dataset_id: int) -> None:
    """Delete a dataset and its pairs.

    Raises:
        NotFoundError: no such dataset.
        ConflictError: a run uses it, whatever the run's status.
    """
    # Locked, so that no run can be created for it between the check and the deletion.
    session.get(Dataset, require_dataset(session, dataset_id).id, with_for_update=True)
    runs = session.scalars(select(Run.id).where(Run.dataset_id == dataset_id).order_by(Run.id))
    if ids := list(runs):
        named = ", ".join(map(str, ids[:MAX_RUNS_NAMED]))
        more = f" and {len(ids) - MAX_RUNS_NAMED} more" if len(ids) > MAX_RUNS_NAMED else ""
        raise ConflictError(
            f"The dataset is used by {'run' if len(ids) == 1 else 'runs'} {named}{more}. "
            f"Delete {'it' if len(ids) == 1 else 'them'} first."
        )
    session.execute(delete(Dataset).where(Dataset.id == dataset_id))
