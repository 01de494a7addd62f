"""Reading the findings of runs: counts by kind, pages of them, and downloads of all."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Integer, Row, Select, cast, func, select
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.exports import RowFormat, export_rows
from app.core.paging import EXPORT_ROWS, PAGE_SIZE
from app.core.text import clip_prompt, clip_text
from app.findings.schemas import (
    DatasetFindings,
    FindingKindOut,
    FindingList,
    FindingOut,
    FindingRow,
)
from app.store.datasets import Dataset, Pair
from app.store.findings import RunFinding
from app.store.lookup import require_run
from app.store.runs import Run, RunSelection
from app.store.selection import count_edited, read_pairs
from chesboard.findings import FINDINGS, FindingKind

SHOWN_CHARACTERS = 600
SHOWN_TURNS = 12
"""Bounds of each text of an item, which bound the size of a page."""
COUNTED = "findings"
"""Key of a run's summary: its counts by kind. Runs of earlier versions lack it."""


def list_findings(
    session: Session,
    run_id: int,
    *,
    kind: FindingKind | None = None,
    offset: int = 0,
    limit: int = PAGE_SIZE,
) -> FindingList:
    """A page of a run's findings by pair, with the counts of all kinds.

    Raises:
        NotFoundError: no such run.
    """
    run = require_run(session, run_id)
    kinds = count_kinds(session, run_id)
    rows = session.execute(_findings(run_id, kind).limit(limit).offset(offset)).all()
    return FindingList(
        total=sum(one.count for one in kinds if kind in (None, one.kind)),
        complete=COUNTED in run.summary,
        counts={one.kind: one.count for one in kinds},
        kinds=kinds,
        items=_with_texts(session, run, rows),
    )


def count_kinds(session: Session, run_id: int) -> list[FindingKindOut]:
    """The kinds that were found in a run, in the order of their declaration."""
    rows = session.execute(
        select(RunFinding.kind, func.count().label("pairs"))
        .where(RunFinding.run_id == run_id)
        .group_by(RunFinding.kind)
    )
    counts = {row.kind: row.pairs for row in rows}
    return [
        FindingKindOut(
            kind=kind,
            label=found.label,
            consequence=found.consequence,
            help=found.help,
            advice=found.advice,
            count=counts[kind],
        )
        for kind, found in FINDINGS.items()
        if counts.get(kind)
    ]


def _findings(run_id: int, kind: FindingKind | None) -> Select[*tuple[Any, ...]]:
    query = (
        select(
            RunFinding.pair,
            cast(Pair.meta["row"].astext, Integer).label("row"),
            RunFinding.kind,
            RunFinding.detail,
        )
        .join(Run, Run.id == RunFinding.run_id)
        .join(Pair, (Pair.dataset_id == Run.dataset_id) & (Pair.pair == RunFinding.pair))
        .where(RunFinding.run_id == run_id)
        .order_by(RunFinding.pair, RunFinding.kind)
    )
    return query if kind is None else query.where(RunFinding.kind == kind)


def _with_texts(session: Session, run: Run, rows: Any) -> list[FindingOut]:
    pairs = {row.pair for row in rows}
    texts = {text.pair: text for text in read_pairs(session, run.id, run.dataset_id, pairs)}
    return [
        FindingOut(
            **_row(row).model_dump(),
            prompt=clip_prompt(texts[row.pair].prompt, SHOWN_CHARACTERS, SHOWN_TURNS),
            preferred=clip_text(texts[row.pair].preferred, SHOWN_CHARACTERS),
            dispreferred=clip_text(texts[row.pair].dispreferred, SHOWN_CHARACTERS),
        )
        for row in rows
    ]


def _row(row: Row[Any]) -> FindingRow:
    kind: FindingKind = row.kind
    return FindingRow(**row._asdict(), consequence=FINDINGS[kind].consequence)


def export_findings(run_id: int, kind: FindingKind | None, format: RowFormat) -> Iterator[str]:
    """All findings of a run, one a line.

    Opens its own transaction.
    """
    return export_rows(list(FindingRow.model_fields), _exported(run_id, kind), format)


def _exported(run_id: int, kind: FindingKind | None) -> Iterator[list[dict[str, Any]]]:
    with transaction() as session:
        query = _findings(run_id, kind).execution_options(yield_per=EXPORT_ROWS)
        for rows in session.execute(query).partitions():
            yield [_row(row).model_dump() for row in rows]


def newest_findings(
    session: Session,
    dataset_id: int,
    model: str,
    *,
    max_prompt_tokens: int | None = None,
    max_response_tokens: int | None = None,
) -> DatasetFindings | None:
    """What the newest succeeded run over all pairs of a dataset found under a model.

    Any kind of run counts; the limits, where given, must be those of the run. None: no run has
    looked yet, which is not to say that there is nothing to be found.
    """
    wanted = {"max_prompt_tokens": max_prompt_tokens, "max_response_tokens": max_response_tokens}
    limits = [
        Run.config[name].astext == str(limit) for name, limit in wanted.items() if limit is not None
    ]
    run = session.scalars(
        select(Run)
        .join(RunSelection, RunSelection.run_id == Run.id)
        .join(Dataset, Dataset.id == Run.dataset_id)
        .where(
            Run.dataset_id == dataset_id,
            Run.status == "succeeded",
            Run.config["model"].astext == model,
            Run.summary.has_key(COUNTED),
            # As the model reads texts by itself: no other revision, no template of the run's own.
            Run.config["revision"].astext.is_(None),
            Run.config["chat_template"].astext.is_(None),
            func.coalesce(Run.config["chat_template_kwargs"].astext, "{}") == "{}",
            func.cardinality(RunSelection.pairs) == Dataset.pairs,
            *limits,
        )
        .order_by(Run.id.desc())
        .limit(1)
    ).one_or_none()
    if run is None:
        return None
    return DatasetFindings.model_validate(
        {
            "run_id": run.id,
            "kind": run.kind,
            "finished_at": run.finished_at,
            "max_prompt_tokens": run.config["max_prompt_tokens"],
            "max_response_tokens": run.config["max_response_tokens"],
            "edited": count_edited(session, dataset_id, run.id),
            "kinds": count_kinds(session, run.id),
        }
    )
