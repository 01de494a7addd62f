"""The SQL of datasets and their pairs."""

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.database import transaction
from app.datasets.rows import Prompt
from app.datasets.schemas import DatasetOut, Manifest, PairOut, PairPage
from app.datasets.tables import Dataset, Pair
from app.errors import ConflictError, NotFoundError
from app.reviews.tables import Review
from app.runs.configs import Rules
from app.runs.selecting import count_selected, passes
from app.runs.tables import Run

# Rows that an export fetches at a time, so that it is never held as a whole.
EXPORT_ROWS = 500
MAX_RUNS_NAMED = 10


def list_datasets(session: Session) -> list[DatasetOut]:
    """All datasets, the newest first."""
    found = session.scalars(select(Dataset).order_by(Dataset.id.desc()))
    return [DatasetOut.model_validate(dataset) for dataset in found]


def get_dataset(session: Session, dataset_id: int) -> DatasetOut:
    """Raises NotFoundError where there is none."""
    return DatasetOut.model_validate(_dataset(session, dataset_id))


def _dataset(session: Session, dataset_id: int) -> Dataset:
    # An id beyond 64 bits is not one that PostgreSQL could be asked for.
    dataset = session.get(Dataset, dataset_id) if 0 < dataset_id < 2**63 else None
    if dataset is None:
        raise NotFoundError(f"There is no dataset {dataset_id}.")
    return dataset


def find_by_sha256(session: Session, sha256: str) -> Dataset | None:
    """The first dataset that was made of this very file."""
    query = select(Dataset).where(Dataset.source_sha256 == sha256).order_by(Dataset.id).limit(1)
    return session.scalars(query).first()


def list_pairs(session: Session, dataset_id: int, offset: int, limit: int) -> PairPage:
    """Pairs `offset` to `offset + limit`, in the file's order.

    Raises:
        NotFoundError: no such dataset.
    """
    total = _dataset(session, dataset_id).pairs
    # Ordinals have no gaps, so the offset is one and the index finds it at once.
    found = session.scalars(
        select(Pair)
        .where(Pair.dataset_id == dataset_id, Pair.pair >= min(offset, total))
        .order_by(Pair.pair)
        .limit(limit)
    )
    return PairPage(total=total, items=[PairOut.model_validate(pair) for pair in found])


def delete_dataset(session: Session, dataset_id: int) -> None:
    """Delete a dataset and its pairs.

    Raises:
        NotFoundError: no such dataset.
        ConflictError: a run uses it, whatever the run's status.
    """
    # Locked, so that no run can begin to refer to it between the look and the deletion.
    session.get(Dataset, _dataset(session, dataset_id).id, with_for_update=True)
    runs = session.scalars(select(Run.id).where(Run.dataset_id == dataset_id).order_by(Run.id))
    if ids := list(runs):
        named = ", ".join(map(str, ids[:MAX_RUNS_NAMED]))
        more = f" and {len(ids) - MAX_RUNS_NAMED} more" if len(ids) > MAX_RUNS_NAMED else ""
        raise ConflictError(
            f"The dataset is used by {'run' if len(ids) == 1 else 'runs'} {named}{more}. "
            f"Delete {'it' if len(ids) == 1 else 'them'} first."
        )
    session.execute(delete(Dataset).where(Dataset.id == dataset_id))


def make_manifest(session: Session, dataset_id: int, *, exclude: Sequence[str]) -> Manifest:
    """Raises NotFoundError where there is no such dataset."""
    dataset = _dataset(session, dataset_id)
    rules = exclusion(exclude)
    kept = count_selected(session, dataset_id, rules)
    verdicts = session.execute(
        select(Review.verdict, func.count().label("pairs"))
        .where(Review.dataset_id == dataset_id, Review.verdict.is_not(None))
        .group_by(Review.verdict)
        .order_by(Review.verdict)
    )
    edited = session.scalar(
        select(func.count()).where(
            Pair.dataset_id == dataset_id, Pair.version > 1, passes(dataset_id, rules)
        )
    )
    return Manifest(
        dataset_id=dataset.id,
        name=dataset.name,
        source_filename=dataset.source_filename,
        source_sha256=dataset.source_sha256,
        source_pairs=dataset.pairs,
        exclude=list(exclude),
        verdicts={str(row.verdict): row.pairs for row in verdicts},
        edited=edited or 0,
        kept=kept,
        left_out=dataset.pairs - kept,
    )


def exclusion(exclude: Sequence[str]) -> Rules:
    """['flagged', 'drop'] as the rules of a selection."""
    verdicts = [name for name in exclude if name != "flagged"]
    return Rules.model_validate(
        {"exclude_flagged": "flagged" in exclude, "exclude_verdicts": verdicts}
    )


def export_jsonl(dataset_id: int, *, exclude: Sequence[str]) -> Iterator[bytes]:
    """Lines {prompt, chosen, rejected}, as this program and trainers read them.

    Opens a transaction of its own: it goes on while the answer is being sent.
    """
    with transaction() as session:
        query = (
            select(Pair.prompt, Pair.preferred, Pair.dispreferred)
            .where(Pair.dataset_id == dataset_id, passes(dataset_id, exclusion(exclude)))
            .order_by(Pair.pair)
            .execution_options(yield_per=EXPORT_ROWS)
        )
        for rows in session.execute(query).partitions():
            yield b"".join(_line(prompt, ours, theirs) for prompt, ours, theirs in rows)


def _line(prompt: Prompt, preferred: str, dispreferred: str) -> bytes:
    chosen: object = preferred
    rejected: object = dispreferred
    if not isinstance(prompt, str):
        # Trainers want either all of a row as chat messages or none of it.
        chosen, rejected = _said(preferred), _said(dispreferred)
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _said(response: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": response}]
