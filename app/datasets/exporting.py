"""Exports of datasets: selection of pairs, layout of rows, and the manifest of provenance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, and_, func, select
from sqlalchemy.orm import Session, aliased

from app.core.database import snapshot
from app.datasets import export_files
from app.datasets.schemas import Manifest, ManifestRun
from app.store.datasets import Dataset, Pair
from app.store.issues import require_checked
from app.store.lookup import require_dataset
from app.store.reviews import PairVersion, Review
from app.store.runs import Run
from app.store.scores import Flag
from app.store.selection import count_selected, passes
from chesboard.configs import Rules
from chesboard.formats.columns import Columns
from chesboard.formats.layouts import restore
from chesboard.issues import IssueKind
from chesboard.pairs import Prompt

Form = Literal["trl", "original"]
Format = Literal["jsonl", "csv", "parquet"]
Cells = dict[str, Any]

ROWS = 64
"""Rows that are fetched at a time: the export is streamed."""


@dataclass(frozen=True, slots=True)
class Export:
    """The parameters of an export.

    exclude: "flagged", or verdicts. exclude_issues, only_issues: kinds of issues. form: the columns
    prompt, chosen and rejected of TRL, or those of the uploaded file.
    """

    dataset_id: int
    format: Format = "jsonl"
    form: Form = "trl"
    exclude: tuple[str, ...] = ()
    exclude_issues: tuple[IssueKind, ...] = ()
    only_issues: tuple[IssueKind, ...] = ()

    def rules(self) -> Rules:
        return Rules.model_validate(
            {
                "exclude_flagged": "flagged" in self.exclude,
                "exclude_verdicts": [name for name in self.exclude if name != "flagged"],
                "exclude_issues": self.exclude_issues,
                "only_issues": self.only_issues,
            }
        )


def check_export(dataset: Dataset, export: Export) -> None:
    """Raises:
    InvalidInputError: the dataset was not checked for an issue that the export names.
    """
    require_checked(dataset, export.exclude_issues, "exclude_issue")
    require_checked(dataset, export.only_issues, "only_issue")


def export_dataset(export: Export) -> Iterator[bytes]:
    """The file's bytes in chunks.

    Opens a transaction of its own: the export is one snapshot, whatever is reviewed meanwhile.

    Raises:
        NotFoundError: no such dataset.
        InvalidInputError: too many columns for a table.
    """
    # One snapshot for the two passes over a table: its columns, then its rows.
    with snapshot() as session:
        dataset = require_dataset(session, export.dataset_id)
        writer = {
            "jsonl": export_files.write_jsonl,
            "csv": export_files.write_csv,
            "parquet": export_files.write_parquet,
        }[export.format]
        yield from writer(lambda: _rows(session, dataset, export))


def _rows(session: Session, dataset: Dataset, export: Export) -> Iterator[Cells]:
    query = _query(export).execution_options(yield_per=ROWS)
    columns = Columns.from_dict(dataset.columns) if dataset.columns else None
    order = {name: place for place, name in enumerate(dataset.statistics.get("columns", []))}
    for found in session.execute(query):
        if export.form == "trl":
            yield as_trl(found.prompt, found.preferred, found.dispreferred)
        else:
            yield _as_uploaded(found, columns, order)


def _query(export: Export) -> Any:
    before = aliased(PairVersion)
    is_edited: ColumnElement[bool] = and_(
        before.version.is_not(None),
        (before.prompt != Pair.prompt)
        | (before.preferred != Pair.preferred)
        | (before.dispreferred != Pair.dispreferred),
    )
    return (
        select(
            Pair.prompt,
            Pair.preferred,
            Pair.dispreferred,
            Pair.meta,
            Pair.source,
            is_edited.label("is_edited"),
        )
        .outerjoin(
            before,
            and_(
                before.dataset_id == Pair.dataset_id,
                before.pair == Pair.pair,
                before.version == 1,  # the file's
            ),
        )
        .where(Pair.dataset_id == export.dataset_id, passes(export.dataset_id, export.rules()))
        .order_by(Pair.pair)
    )


def as_trl(prompt: Prompt, preferred: str, dispreferred: str) -> Cells:
    """A row in TRL's format: all of it chat messages, or all of it text."""
    if isinstance(prompt, str):
        return {"prompt": prompt, "chosen": preferred, "rejected": dispreferred}
    return {"prompt": prompt, "chosen": _said(preferred), "rejected": _said(dispreferred)}


def _said(response: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": response}]


def _as_uploaded(found: "Row[Any]", columns: Columns | None, order: dict[str, int]) -> Cells:
    source = found.source
    texts = found.prompt, found.preferred, found.dispreferred
    cells = (
        as_trl(*texts)
        if columns is None or (source and source.get("reshaped"))
        else restore(columns, *texts, source, is_edited=found.is_edited)
    )
    meta = {name: value for name, value in found.meta.items() if name != "row"}
    if source and "row" in source:
        meta["row"] = source["row"]
    row = {**meta, **cells}
    # PostgreSQL's jsonb does not keep the order of keys.
    return dict(sorted(row.items(), key=lambda item: order.get(item[0], len(order))))


def make_manifest(session: Session, export: Export) -> Manifest:
    """Raises:
    NotFoundError: no such dataset.
    """
    dataset_id, rules = export.dataset_id, export.rules()
    dataset = require_dataset(session, dataset_id)
    check_export(dataset, export)
    kept = count_selected(session, dataset_id, rules)
    edited = select(func.count()).where(
        Pair.dataset_id == dataset_id, Pair.version > 1, passes(dataset_id, rules)
    )
    return Manifest(
        dataset_id=dataset.id,
        name=dataset.name,
        source_filename=dataset.source_filename,
        source_sha256=dataset.source_sha256,
        source_bytes=dataset.source_bytes,
        hub_name=dataset.hub_name,
        hub_config=dataset.hub_config,
        hub_split=dataset.hub_split,
        hub_revision=dataset.hub_revision,
        source_pairs=dataset.pairs,
        source_rejected=dataset.rejected,
        source_form=dataset.format,
        columns=dataset.columns,
        format=export.format,
        form=export.form,
        exclude=list(export.exclude),
        exclude_issues=list(export.exclude_issues),
        only_issues=list(export.only_issues),
        verdicts=_verdicts(session, dataset_id),
        score_runs=_score_runs(session, dataset_id),
        edited=session.scalar(edited) or 0,
        notes=_notes(dataset, export),
        kept=kept,
        left_out=dataset.pairs - kept,
        exported_at=datetime.now(UTC),
    )


def _notes(dataset: Dataset, export: Export) -> list[str]:
    notes = list(dataset.statistics.get("notes", ()))
    if notes and export.form == "original":
        notes.append("Pairs of such rows are written as prompt, chosen and rejected.")
    return notes


def _verdicts(session: Session, dataset_id: int) -> dict[str, int]:
    found = session.execute(
        select(Review.verdict, func.count())
        .where(Review.dataset_id == dataset_id, Review.verdict.is_not(None))
        .group_by(Review.verdict)
        .order_by(Review.verdict)
    )
    return {str(verdict): pairs for verdict, pairs in found}


def _score_runs(session: Session, dataset_id: int) -> list[ManifestRun]:
    """The score runs that set the current flags."""
    found: Sequence[Any] = session.execute(
        select(
            Run.id,
            Run.config["model"].astext.label("model"),
            Run.finished_at,
            Flag.measure,
            func.count().label("flagged"),
        )
        .join(Flag, Flag.score_run == Run.id)
        .where(Flag.dataset_id == dataset_id)
        .group_by(Run.id, Flag.measure)
        .order_by(Run.id, Flag.measure)
    ).all()
    return [
        ManifestRun(
            run=row.id,
            model=row.model or "",
            measure=row.measure,
            flagged=row.flagged,
            finished_at=row.finished_at,
        )
        for row in found
    ]
