"""Previews of a selection, and the pairs that a run was given by its own."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.csv import csv_line
from app.runs.schemas import LikeRun, RunPairs, SelectionPreview
from app.runs.selection_text import selection_text
from app.runs.validation import check_selection
from app.store.datasets import Dataset, Pair
from app.store.lookup import require_dataset, require_run
from app.store.runs import EXTERNAL, Run, RunSelection
from app.store.selection import count_edited, selected
from chesboard.configs import Selection
from chesboard.pairs import Pair as TextPair

SAMPLE = 5
"""Pairs of either kind that a preview shows."""
MAX_ALIKE = 10
_IGNORED_SETTINGS = ["selection", "probes", "forecast_run"]
"""Settings that may differ between runs that are compared: neither probing nor a forecast changes
training."""


def preview(session: Session, dataset_id: int, selection: Selection) -> SelectionPreview:
    """How many pairs a selection matches at present, with examples of both kinds.

    Raises:
        NotFoundError: no such dataset.
        InvalidInputError: the selection names a pair or a score run of another dataset.
    """
    dataset = require_dataset(session, dataset_id)
    check_selection(session, dataset, selection, "")
    # Looked for once: a rule over a measure reads the scores of the whole dataset.
    matching = selected(dataset_id, selection).cte("matching")
    # A difference of sets: the pairs that are left out may be few, and far behind.
    left_out = (
        select(Pair.pair).where(Pair.dataset_id == dataset_id).except_(select(matching.c.pair))
    ).subquery("left_out")
    count, sample, sample_left_out = session.execute(
        select(
            select(func.count()).select_from(matching).scalar_subquery(),
            _first(matching.c.pair),
            _first(left_out.c.pair),
        )
    ).one()
    return SelectionPreview(
        total=dataset.pairs,
        count=count,
        left_out=dataset.pairs - count,
        sample=_texts(session, dataset_id, sample),
        sample_left_out=_texts(session, dataset_id, sample_left_out),
    )


def _first(pairs: ColumnElement[int]) -> Any:
    """The first of these pairs, as an array."""
    return func.array(select(pairs).order_by(pairs).limit(SAMPLE).scalar_subquery())


def _texts(session: Session, dataset_id: int, pairs: Sequence[int]) -> list[TextPair]:
    rows = session.execute(
        select(Pair.pair, Pair.prompt, Pair.preferred, Pair.dispreferred)
        .where(Pair.dataset_id == dataset_id, among(Pair.pair, pairs))
        .order_by(Pair.pair)
    )
    return [TextPair(**row._asdict()) for row in rows]


def list_run_pairs(session: Session, run_id: int, offset: int, limit: int) -> RunPairs:
    """A page of the pairs that a run was given, and the runs that differ only in their pairs.

    Raises:
        NotFoundError: no such run.
    """
    run = require_run(session, run_id)
    # Of all its pairs only a page leaves the database.
    page = RunSelection.pairs[offset + 1 : offset + limit]
    record = session.execute(
        select(
            func.cardinality(RunSelection.pairs).label("total"),
            RunSelection.dataset_pairs,
            page.label("page"),
        ).where(RunSelection.run_id == run_id)
    ).one_or_none()
    given = {} if run.kind == EXTERNAL else run.config.get("selection") or {}
    selection = Selection.model_validate(given)
    dataset = None if run.dataset_id is None else session.get_one(Dataset, run.dataset_id)
    return RunPairs(
        total=record.total if record else None,
        dataset_pairs=record.dataset_pairs if record else dataset.pairs if dataset else 0,
        edited=count_edited(session, dataset.id, run_id) if record and dataset else 0,
        selection=given,
        words=selection_text(selection),
        alike=_alike(session, run) if run.kind == "train" else [],
        offset=offset,
        pairs=record.page if record else [],
    )


def export_run_pairs(session: Session, run_id: int) -> Iterator[str]:
    """The pairs that a run was given, with the versions of their texts, as CSV, header first.

    Raises:
        NotFoundError: no such run.
    """
    require_run(session, run_id)
    record = session.get(RunSelection, run_id)
    lines = zip(record.pairs, record.versions, strict=True) if record else ()
    return (csv_line(line) for line in (("pair", "text_version"), *lines))


def _alike(session: Session, run: Run) -> list[LikeRun]:
    """The newest runs over the same dataset with the same settings but another selection."""
    selection = run.config.get("selection", {})
    settings = {name: value for name, value in run.config.items() if name not in _IGNORED_SETTINGS}
    rows = session.execute(
        select(
            Run.id,
            Run.name,
            Run.status,
            Run.config["selection"].label("selection"),
            func.cardinality(RunSelection.pairs).label("pairs"),
        )
        .outerjoin(RunSelection, RunSelection.run_id == Run.id)
        .where(
            Run.dataset_id == run.dataset_id,
            Run.kind == run.kind,
            Run.id != run.id,
            Run.config.op("-")(cast(_IGNORED_SETTINGS, ARRAY(Text)))
            == cast(settings, Run.config.type),
            func.coalesce(Run.config["selection"], cast({}, Run.config.type))
            != cast(selection, Run.config.type),
        )
        .order_by(Run.id.desc())
        .limit(MAX_ALIKE)
    )
    return [
        LikeRun(
            run_id=row.id,
            name=row.name,
            status=row.status,
            pairs=row.pairs,
            words=selection_text(Selection.model_validate(row.selection or {})),
        )
        for row in rows
    ]
