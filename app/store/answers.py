"""What tables of models' answers have in common: which rows match, their pairs, and their parts."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import Session

from app.core.paging import EXPORT_ROWS
from app.store.filtering import FilterDecision
from app.store.generations import Generation
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


def in_parts(session: Session, query: Select[Row]) -> Iterator[Sequence[Row]]:
    """The rows of a query, however many, a part in memory at a time."""
    found = session.scalars(query.execution_options(yield_per=EXPORT_ROWS))
    for rows in found.partitions():
        yield rows
        session.expunge_all()
