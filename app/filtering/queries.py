"""Reading the decisions of a training run's filter: counts by epoch, pages, and downloads."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Double, case, func, literal, select
from sqlalchemy.orm import Session

from app.core.errors import NotFoundError
from app.core.exports import RowFormat, export_rows
from app.core.nonfinite import finite_or_none
from app.core.text import clip_prompt
from app.filtering.schemas import DecisionOut, DecisionPage, FilterEpoch
from app.store.answers import (
    PAGE_ITEMS,
    SHOWN_CHARACTERS,
    SHOWN_TURNS,
    in_parts,
    matching,
    pairs_of,
)
from app.store.filtering import FilterDecision
from app.store.lookup import require_run
from app.store.runs import Run
from chesboard.pairs import Pair


@dataclass(frozen=True, slots=True)
class Filter:
    """Which decisions: before one epoch, on one pair, kept or dropped, with a text in the answer
    (in any case)."""

    epoch: int | None = None
    pair: int | None = None
    kept: bool | None = None
    search: str | None = None

    def conditions(self, run_id: int) -> list[ColumnElement[bool]]:
        return matching(
            FilterDecision,
            run_id,
            search=self.search,
            epoch=self.epoch,
            pair=self.pair,
            kept=self.kept,
        )


def list_decisions(
    session: Session, run_id: int, wanted: Filter, *, offset: int = 0, limit: int = PAGE_ITEMS
) -> DecisionPage:
    """A page of decisions in the order of epochs and pairs, with counts of all.

    Raises:
        NotFoundError: no such run, or it filters no pairs.
    """
    run = require_filter(session, run_id)
    epochs = _by_epoch(session, run_id)
    conditions = wanted.conditions(run_id)
    total = session.scalar(select(func.count()).where(*conditions)) or 0
    rows = session.scalars(
        select(FilterDecision)
        .where(*conditions)
        .order_by(FilterDecision.epoch, FilterDecision.pair)
        .limit(limit)
        .offset(offset)
    ).all()
    pairs = pairs_of(session, run, rows)
    items = [_decision(row, pairs[row.pair]) for row in rows]
    for item in items:
        item.prompt = clip_prompt(item.prompt, SHOWN_CHARACTERS, SHOWN_TURNS)
    return DecisionPage(
        total=total, decisions=sum(one.pairs for one in epochs), epochs=epochs, items=items
    )


def require_filter(session: Session, run_id: int) -> Run:
    """Raises:
    NotFoundError: no such run, or it filters no pairs.
    """
    run = require_run(session, run_id)
    if not run.config.get("refresh_filter"):
        raise NotFoundError(f"Run {run_id} filters no pairs.")
    return run


def export_decisions(run_id: int, wanted: Filter, format: RowFormat) -> Iterator[str]:
    """All decisions that match, one a line (chat messages as JSON).

    Opens its own transaction.
    """
    return export_rows(list(DecisionOut.model_fields), _exported(run_id, wanted), format)


def _exported(run_id: int, wanted: Filter) -> Iterator[list[dict[str, Any]]]:
    query = (
        select(FilterDecision)
        .where(*wanted.conditions(run_id))
        .order_by(FilterDecision.epoch, FilterDecision.pair)
    )
    for rows, pairs in in_parts(run_id, query):
        yield [_decision(row, pairs[row.pair]).model_dump() for row in rows]


def _by_epoch(session: Session, run_id: int) -> list[FilterEpoch]:
    table = FilterDecision
    infinite = literal("Infinity", Double)
    # NaN is greater than every number in PostgreSQL.
    is_finite = (func.abs(table.sample_reward) < infinite) & (
        func.abs(table.preferred_reward) < infinite
    )
    rows = session.execute(
        select(
            table.epoch,
            func.count().label("pairs"),
            func.count().filter(table.kept.is_(False)).label("dropped"),
            func.avg(case((is_finite, table.sample_reward))).label("sample"),
            func.avg(case((is_finite, table.preferred_reward))).label("preferred"),
        )
        .where(table.run_id == run_id)
        .group_by(table.epoch)
        .order_by(table.epoch)
    )
    return [
        FilterEpoch(
            epoch=row.epoch,
            pairs=row.pairs,
            dropped=row.dropped,
            mean_sample_reward=row.sample,
            mean_preferred_reward=row.preferred,
        )
        for row in rows
    ]


def _decision(row: FilterDecision, pair: Pair) -> DecisionOut:
    return DecisionOut(
        pair=row.pair,
        epoch=row.epoch,
        kept=row.kept,
        sample_reward=finite_or_none(row.sample_reward),
        preferred_reward=finite_or_none(row.preferred_reward),
        text=row.text,
        prompt=pair.prompt,
        preferred=pair.preferred,
    )
