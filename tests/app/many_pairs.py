"""Datasets of many pairs, made within the database: alike, and scored."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.database import Base
from app.store.datasets import Dataset
from tests.app import factories


def repeat_pair(session: Session, dataset: Dataset, count: int) -> None:
    """Give a dataset of one pair so many of it."""
    _repeat(session, "pairs", "dataset_id", dataset.id, count, {"pair": "number"})
    dataset.pairs = count


def score_pairs(session: Session, dataset_id: int, count: int) -> int:
    """A score run of a dataset's first `count` pairs that has succeeded. CHES rises with the
    ordinal. Returns its id."""
    scored = factories.run(session, dataset_id, kind="score", status="succeeded")
    factories.score(session, scored.id, 0, 0.0)
    _repeat(session, "scores", "run_id", scored.id, count, {"pair": "number", "ches": "number"})
    return scored.id


def _repeat(
    session: Session, table: str, owner: str, of: int, count: int, new: dict[str, str]
) -> None:
    """Add rows to an owner's first one, numbered from 1. new: SQL of what differs, by column."""
    columns = [column.name for column in Base.metadata.tables[table].columns]
    session.execute(
        text(
            f"INSERT INTO {table} ({', '.join(columns)}) "
            f"SELECT {', '.join(new.get(name, f'{table}.{name}') for name in columns)} "
            f"FROM {table}, generate_series(1, {count - 1}) AS number WHERE {table}.{owner} = :of"
        ),
        {"of": of},
    )
