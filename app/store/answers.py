"""What tables of models' answers have in common: which rows match, their pairs, and their parts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import Session

from app.core.database import snapshot
from app.core.paging import EXPORT_ROWS
from app.store.filtering import FilterDecision
from app.store.generations import Generation
from app.store.lookup import require_run
from app.store.runs import Run
from app.store.selection import read_pairs
from chesboard.pairs import Pair

SHOWN_CHARACTERS = 4000
SHOWN_TURNS = 24
"""Bounds of the prompt of an answer in a page."""
PAGE_ITEMS = 10
"""Default number of items of a page: each has long texts."""

AnswerTable = type[Generation] | type[FilterDecision]
Row = TypeVar("Row", Generation, FilterDecision)


def matching(
    table: AnswerTable, run_id: int, *, search: str | None = None, **values: int | bool | None
) -> list[ColumnElement[bool]]:
    """Conditions on a run's rows. search: a text in the answer, in any case. values: of columns;
    None: any."""
    found: list[ColumnElement[bool]] = [table.run_id == run_id]
    found += [getattr(table, name) == value for name, value in values.items() if value is not None]
    if search:
        found.append(table.text.icontains(search, autoescape=True))
    return found


def pairs_of(session: Session, run: Run, rows: Sequence[Any]) -> dict[int, Pair]:
    """The pairs of rows, by ordinal, as the run was given them."""
    found = read_pairs(session, run.id, run.dataset_id, {row.pair for row in rows})
    return {pair.pair: pair for pair in found}


def in_parts(run_id: int, query: Select[Row]) -> Iterator[tuple[Sequence[Row], Mapping[int, Pair]]]:
    """The rows of a query over a run, however many, a part in memory at a time with its pairs.

    Opens its own transaction.
    """
    with snapshot() as session:
        run = require_run(session, run_id)
        found = session.scalars(query.execution_options(yield_per=EXPORT_ROWS))
        for rows in found.partitions():
            yield rows, pairs_of(session, run, rows)
            session.expunge_all()
