"""Rows by their keys, or the error that says which one does not exist; the bounds of the keys."""

from typing import Annotated

from pydantic import Field
from sqlalchemy.orm import Session

from app.core.errors import NotFoundError
from app.store.datasets import Dataset, Pair
from app.store.runs import Run

MAX_ID = 2**63 - 1
"""Maximum of PostgreSQL's bigint; querying a larger id would raise a database error."""
MAX_ORDINAL = 2**31 - 1
"""PostgreSQL's integer, in which a pair's ordinal is stored."""

Id = Annotated[int, Field(ge=1, lt=2**63)]
"""Type of request fields that hold the id of a row."""


def there_is_no(noun: str, key: object) -> str:
    """The text of a "not found" error, for a 404 and for a field that refers to a missing row."""
    return f"There is no {noun} {key}."


def find_run(session: Session, run_id: int, *, lock: bool = False) -> Run | None:
    """The run, or None. `lock`: FOR UPDATE until the transaction ends."""
    return session.get(Run, run_id, with_for_update=lock) if 0 < run_id <= MAX_ID else None


def require_run(session: Session, run_id: int, *, lock: bool = False) -> Run:
    """Raises:
    NotFoundError: no such run.
    """
    run = find_run(session, run_id, lock=lock)
    if run is None:
        raise NotFoundError(there_is_no("run", run_id), code="run_not_found")
    return run


def dataset_of(run: Run) -> int:
    """The dataset of a run of a kind that always has one: of any but an external run."""
    assert run.dataset_id is not None, f"run {run.id} has no dataset"
    return run.dataset_id


def require_dataset(session: Session, dataset_id: int, *, lock: bool = False) -> Dataset:
    """`lock`: FOR NO KEY UPDATE, to serialize requests that change rows of the dataset.

    Raises:
        NotFoundError: no such dataset.
    """
    known = 0 < dataset_id <= MAX_ID
    held = {"key_share": True} if lock else False
    dataset = session.get(Dataset, dataset_id, with_for_update=held) if known else None
    if dataset is None:
        raise NotFoundError(there_is_no("dataset", dataset_id))
    return dataset


def require_pair(session: Session, dataset_id: int, pair: int) -> Pair:
    """Raises:
    NotFoundError: the dataset does not exist or has no such pair.
    """
    known = 0 < dataset_id <= MAX_ID and 0 <= pair <= MAX_ORDINAL
    row = session.get(Pair, (dataset_id, pair)) if known else None
    if row is None:
        raise NotFoundError(there_is_no("pair", f"{pair} in dataset {dataset_id}"))
    return row
