"""Reading the answers of generation runs: pages of them by prompt, and downloads of all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.errors import NotFoundError
from app.core.exports import RowFormat, export_rows
from app.core.nonfinite import finite_or_none
from app.core.text import clip_prompt
from app.generations.schemas import (
    GenerationOut,
    GenerationPage,
    PromptGenerations,
)
from app.store.answers import (
    PAGE_ITEMS,
    SHOWN_CHARACTERS,
    SHOWN_TURNS,
    in_parts,
    matching,
    pairs_of,
)
from app.store.generations import Generation
from app.store.lookup import require_run
from app.store.runs import Run


@dataclass(frozen=True, slots=True)
class Filter:
    """Which answers: of one pair, with a text in them (in any case), ended or cut."""

    pair: int | None = None
    search: str | None = None
    ended: bool | None = None

    def conditions(self, run_id: int) -> list[ColumnElement[bool]]:
        return matching(Generation, run_id, search=self.search, pair=self.pair, ended=self.ended)


def list_generations(
    session: Session, run_id: int, wanted: Filter, *, offset: int = 0, limit: int = PAGE_ITEMS
) -> GenerationPage:
    """A page of prompts in the order of their pairs, each with its answers that match.

    Raises:
        NotFoundError: no such run, or it generates no answers.
    """
    run = require_generations(session, run_id)
    conditions = wanted.conditions(run_id)
    totals = session.execute(
        select(
            func.count(),
            func.count().filter(Generation.ended),
            func.coalesce(func.sum(Generation.tokens), 0),
        ).where(Generation.run_id == run_id)
    ).one()
    found = session.execute(
        select(func.count(), func.count(Generation.pair.distinct())).where(*conditions)
    ).one()
    pairs = session.scalars(
        select(Generation.pair)
        .where(*conditions)
        .distinct()
        .order_by(Generation.pair)
        .limit(limit)
        .offset(offset)
    ).all()
    rows = session.scalars(
        select(Generation)
        .where(*conditions, among(Generation.pair, pairs))
        .order_by(Generation.pair, Generation.sample)
    ).all()
    return GenerationPage(
        total=found[1],
        matching=found[0],
        answers=totals[0],
        ended=totals[1],
        tokens=totals[2],
        items=_by_prompt(session, run, rows),
    )


def require_generations(session: Session, run_id: int) -> Run:
    """Raises:
    NotFoundError: no such run, or it generates no answers.
    """
    run = require_run(session, run_id)
    if run.kind != "generate":
        raise NotFoundError(f"Run {run_id} generates no answers.")
    return run


def export_generations(run_id: int, wanted: Filter, format: RowFormat) -> Iterator[str]:
    """All answers that match, one a line with their prompts (chat messages as JSON).

    Opens its own transaction.
    """
    return export_rows(
        ["pair", "prompt", *GenerationOut.model_fields], _exported(run_id, wanted), format
    )


def _exported(run_id: int, wanted: Filter) -> Iterator[list[dict[str, Any]]]:
    query = (
        select(Generation)
        .where(*wanted.conditions(run_id))
        .order_by(Generation.pair, Generation.sample)
    )
    for rows, pairs in in_parts(run_id, query):
        yield [_row(row, pairs[row.pair].prompt) for row in rows]


def _row(row: Generation, prompt: Any) -> dict[str, Any]:
    return {"pair": row.pair, "prompt": prompt, **_answer(row).model_dump()}


def _by_prompt(session: Session, run: Run, rows: Sequence[Generation]) -> list[PromptGenerations]:
    pairs = pairs_of(session, run, rows)
    return [
        PromptGenerations(
            pair=pair,
            prompt=clip_prompt(pairs[pair].prompt, SHOWN_CHARACTERS, SHOWN_TURNS),
            answers=[_answer(row) for row in answers],
        )
        for pair, answers in groupby(rows, key=lambda row: row.pair)
    ]


def _answer(row: Generation) -> GenerationOut:
    return GenerationOut(
        sample=row.sample,
        text=row.text,
        tokens=row.tokens,
        ended=row.ended,
        logprob=finite_or_none(row.logprob),
    )
