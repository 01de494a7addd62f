"""Storage of a run's records: one transaction a batch, one upsert statement a record kind.

The key of a record is (run, step), (run, pair, step) and the like: a resumed run that repeats a
step overwrites its rows, so that every number is stored exactly once.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import REAL, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.orm import Session

from app.core.database import Base
from app.core.nonfinite import nonfinite_to_none
from app.store.filtering import FilterDecision
from app.store.findings import RunFinding
from app.store.generations import Generation
from app.store.judgments import Judgment
from app.store.preflight import PreflightPair
from app.store.probes import PositionStep, Probe, ProbeAnswer, ProbePosition, ProbeStep
from app.store.runs import Metric, ReferenceLogprob, Run
from app.store.scores import Score
from chesboard.records import (
    AnswerRecord,
    FilterRecord,
    FinalRecord,
    FindingRecord,
    GenerationRecord,
    JudgmentRecord,
    LedgerRecord,
    MetricRecord,
    PositionRecord,
    PositionStepRecord,
    PreflightRecord,
    ProbeRecord,
    ProbeStepRecord,
    Record,
    ReferenceRecord,
    ScoreRecord,
)


class StaleLeaseError(Exception):
    """The run is not (or no longer) this worker's to write to."""


class RecordKind(NamedTuple):
    """Where records of one kind are stored."""

    table: type[Base]
    key: tuple[str, ...]
    """The primary key besides run_id."""
    is_durable: bool = False
    """Whether a later attempt at the run reads these records instead of computing them again."""


RECORD_KINDS: Mapping[type[Record], RecordKind] = {
    # Written in this order: steps refer to their probe or position by a foreign key.
    MetricRecord: RecordKind(Metric, ("step",)),
    ProbeRecord: RecordKind(Probe, ("pair",)),
    ProbeStepRecord: RecordKind(ProbeStep, ("pair", "step")),
    PositionRecord: RecordKind(ProbePosition, ("pair", "response", "position")),
    PositionStepRecord: RecordKind(PositionStep, ("pair", "response", "position", "step")),
    AnswerRecord: RecordKind(ProbeAnswer, ("pair", "step")),
    ScoreRecord: RecordKind(Score, ("pair",), is_durable=True),
    ReferenceRecord: RecordKind(ReferenceLogprob, ("pair",), is_durable=True),
    FinalRecord: RecordKind(ReferenceLogprob, ("pair",)),
    FindingRecord: RecordKind(RunFinding, ("kind", "pair")),
    PreflightRecord: RecordKind(PreflightPair, ("pair",), is_durable=True),
    GenerationRecord: RecordKind(Generation, ("pair", "sample"), is_durable=True),
    JudgmentRecord: RecordKind(Judgment, ("pair", "sample"), is_durable=True),
    FilterRecord: RecordKind(FilterDecision, ("pair", "epoch"), is_durable=True),
}
"""A field of a record is the column of the same name; the fields of a LedgerRecord are columns of
the record that holds it. A column `revision` gets the run's."""


@dataclass(frozen=True, slots=True)
class Progress:
    """advanced: how much of `done` was done since the count began, which took `seconds`."""

    done: int
    total: int
    unit: str
    advanced: int = 0
    seconds: float = 0.0

    @property
    def eta_seconds(self) -> float | None:
        """None until the count has advanced."""
        if self.advanced <= 0:
            return None
        return self.seconds / self.advanced * (self.total - self.done)


@dataclass(frozen=True, slots=True)
class Phase:
    """What a worker does now and, where that is counted, how far it is."""

    name: str
    done: int | None = None
    total: int | None = None
    unit: str | None = None
    eta_seconds: float | None = None


@dataclass(slots=True)
class Batch:
    """What is written of one run in one transaction."""

    records: list[Record] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    progress: Progress | None = None
    phase: Phase | None = None
    device: str | None = None
    checkpointed: bool = False
    """Whether a checkpoint of everything recorded before was written."""

    def __len__(self) -> int:
        return (
            len(self.records)
            + len(self.messages)
            + (self.progress is not None)
            + (self.phase is not None)
            + (self.device is not None)
            + self.checkpointed
        )

    @property
    def has_durable_progress(self) -> bool:
        """Whether some work is finished for good: no later attempt at the run repeats it."""
        return self.checkpointed or any(RECORD_KINDS[type(one)].is_durable for one in self.records)


def write(session: Session, run_id: int, token: str, batch: Batch) -> int:
    """Store a batch and return the run's new revision.

    Raises:
        StaleLeaseError: the lease is no longer this worker's; nothing is written.
    """
    revision = _update_run(session, run_id, token, batch)
    write_records(session, run_id, revision, batch.records)
    return revision


def write_records(session: Session, run_id: int, revision: int, records: Sequence[Record]) -> None:
    """Store records under a revision; the caller holds the run's row."""
    by_kind: defaultdict[type[Record], list[Record]] = defaultdict(list)
    for record in records:
        by_kind[type(record)].append(record)
    for kind in RECORD_KINDS:
        _upsert(session, kind, by_kind[kind], run_id, revision)


def _update_run(session: Session, run_id: int, token: str, batch: Batch) -> int:
    """Lock the run's row, check the lease, and write the columns of the row itself."""
    values = columns_of(batch)
    if batch.has_durable_progress:
        values["tries_here"] = 1  # the current attempt
    row = session.execute(
        update(Run)
        .where(Run.id == run_id, Run.lease_token == token, Run.status == "running")
        .values(**values)
        .returning(Run.revision)
    ).one_or_none()
    if row is None:
        raise StaleLeaseError(f"run {run_id} is no longer this worker's")
    add_messages(session, run_id, batch.messages)
    return int(row.revision)


def columns_of(batch: Batch) -> dict[str, Any]:
    """What a batch changes in the row of its run."""
    values: dict[str, Any] = {
        "revision": Run.revision + 1,
        "reported_at": func.clock_timestamp(),
    }
    if batch.progress is not None:
        values |= {
            "progress_done": batch.progress.done,
            "progress_total": batch.progress.total,
            "progress_unit": batch.progress.unit,
            "eta_seconds": batch.progress.eta_seconds,
        }
    if batch.phase is not None:
        values |= {
            "phase": batch.phase.name,
            "phase_done": batch.phase.done,
            "phase_total": batch.phase.total,
            "phase_unit": batch.phase.unit,
            "phase_eta_seconds": batch.phase.eta_seconds,
        }
    if batch.device is not None:
        values["device"] = batch.device
    return values


def add_messages(session: Session, run_id: int, messages: Sequence[str]) -> None:
    """Add notices to a run, each once; the caller holds its row."""
    if not messages:
        return
    known = session.scalars(select(Run.messages).where(Run.id == run_id)).one()
    new = [text for text in messages if text not in known]
    if new:
        session.execute(update(Run).where(Run.id == run_id).values(messages=[*known, *new]))


def _upsert(
    session: Session, kind: type[Record], records: Sequence[Record], run_id: int, revision: int
) -> None:
    if not records:
        return
    table, key, _ = RECORD_KINDS[kind]
    constants = {"run_id": run_id}
    if "revision" in table.__table__.c:
        constants["revision"] = revision
    rows = [constants | _columns(record, table) for record in records]
    conflict_key = ["run_id", *key]
    statement = insert(table)
    changed: dict[str, Any] = {
        name: statement.excluded[name] for name in rows[0] if name not in conflict_key
    }
    if "recorded_at" in table.__table__.c:
        changed["recorded_at"] = func.clock_timestamp()
    session.execute(
        statement.on_conflict_do_update(index_elements=conflict_key, set_=changed), rows
    )


def _columns(record: Record | LedgerRecord, table: type[Base]) -> dict[str, Any]:
    """The record's fields as the table's columns, those of its ledger among them."""
    converters = _converters(table)
    columns: dict[str, Any] = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if isinstance(value, LedgerRecord):
            columns |= _columns(value, table)
        else:
            convert = converters.get(one.name)
            columns[one.name] = value if convert is None else convert(value)
    return columns


@cache
def _converters(table: type[Base]) -> dict[str, Callable[[Any], Any]]:
    """The columns whose values have to be converted, and how."""
    converters: dict[str, Callable[[Any], Any]] = {}
    for column in table.__table__.c:
        match column.type:
            case JSONB():
                converters[column.name] = _to_json
            case ARRAY(item_type=REAL()):
                converters[column.name] = _to_float32
    return converters


def _to_json(value: Any) -> Any:
    """Dataclasses as objects, and null for NaN and infinity, which JSON cannot encode."""
    if isinstance(value, list):
        value = [_plain(part) for part in value]
    return nonfinite_to_none(_plain(value))


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _to_float32(values: Sequence[float] | None) -> list[float] | None:
    """Round to the precision of the column, so that what underflows becomes zero: PostgreSQL
    raises an error for a number that is out of range of its type."""
    return None if values is None else array("f", values).tolist()
