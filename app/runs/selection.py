"""Selections as people meet them: what one comes to, and which pairs a run was given."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Integer, Text, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.core.csv import csv_line
from app.core.errors import NotFoundError
from app.runs.requests import check_selection
from app.runs.schemas import LikeRun, RunPairs, SelectionPreview
from app.runs.wording import in_words
from app.store.datasets import Dataset, Pair
from app.store.lookup import require_run
from app.store.runs import Run, RunSelection
from app.store.selection import count_selected, selected
from chesboard.configs import Selection
from chesboard.pairs import Pair as TextPair

SAMPLE = 5
MAX_ALIKE = 10
_NO_MATTER = ["selection", "probes"]


def preview(session: Session, dataset_id: int, selection: Selection) -> SelectionPreview:
    """How many pairs a selection leaves now, and some of both kinds.

    Raises:
        NotFoundError: no such dataset.
        InvalidInputError: it names a pair or a score run that is not the dataset's.
    """
    dataset = session.get(Dataset, dataset_id) if 0 < dataset_id < 2**63 else None
    if dataset is None:
        raise NotFoundError(f"There is no dataset {dataset_id}.")
    check_selection(session, dataset, selection, "")
    chosen = selected(dataset_id, selection)
    kept = _sample(session, dataset_id, Pair.pair.in_(chosen))
    left_out = _sample(session, dataset_id, Pair.pair.not_in(chosen))
    count = count_selected(session, dataset_id, selection)
    return SelectionPreview(
        total=dataset.pairs,
        count=count,
        left_out=dataset.pairs - count,
        sample=kept,
        sample_left_out=left_out,
    )


def _sample(session: Session, dataset_id: int, condition: Any) -> list[TextPair]:
    rows = session.execute(
        select(Pair.pair, Pair.prompt, Pair.preferred, Pair.dispreferred)
        .where(Pair.dataset_id == dataset_id, condition)
        .order_by(Pair.pair)
        .limit(SAMPLE)
    )
    return [TextPair(**row._asdict()) for row in rows]


def list_run_pairs(session: Session, run_id: int, offset: int, limit: int) -> RunPairs:
    """Which pairs a run was given, in their order, and which runs differ in that alone.

    Raises:
        NotFoundError: no such run.
    """
    run = require_run(session, run_id)
    record = session.get(RunSelection, run_id)
    selection = Selection.model_validate(run.config.get("selection") or {})
    dataset = session.get_one(Dataset, run.dataset_id)
    return RunPairs(
        total=len(record.pairs) if record else None,
        dataset_pairs=record.dataset_pairs if record else dataset.pairs,
        edited=_edited_since(session, run.dataset_id, record) if record else 0,
        selection=run.config.get("selection") or {},
        words=in_words(selection),
        alike=_alike(session, run) if run.kind == "train" else [],
        offset=offset,
        pairs=record.pairs[offset : offset + limit] if record else [],
    )


def export_run_pairs(session: Session, run_id: int) -> Iterator[str]:
    """Which pairs a run was given, and in which version of their text, as CSV, header first.

    Raises:
        NotFoundError: no such run.
    """
    require_run(session, run_id)
    record = session.get(RunSelection, run_id)
    lines = zip(record.pairs, record.versions, strict=True) if record else ()
    return (csv_line(line) for line in (("pair", "text_version"), *lines))


def _edited_since(session: Session, dataset_id: int, record: RunSelection) -> int:
    arrays = (cast(record.pairs, ARRAY(Integer)), cast(record.versions, ARRAY(Integer)))
    given = func.unnest(*arrays).table_valued("pair", "version", name="given").render_derived()
    return (
        session.scalar(
            select(func.count())
            .select_from(given)
            .join(Pair, (Pair.pair == given.c.pair) & (Pair.version > given.c.version))
            .where(Pair.dataset_id == dataset_id)
        )
        or 0
    )


def _alike(session: Session, run: Run) -> list[LikeRun]:
    """The newest runs that differ from this one in their selection alone, or in what they watch.

    What is watched changes nothing of the training.
    """
    selection = run.config.get("selection", {})
    settings = {name: value for name, value in run.config.items() if name not in _NO_MATTER}
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
            Run.config.op("-")(cast(_NO_MATTER, ARRAY(Text))) == cast(settings, Run.config.type),
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
            words=in_words(Selection.model_validate(row.selection or {})),
        )
        for row in rows
    ]
