"""Writing what a run measured, one transaction a batch, each number once.

Rows are keyed by (run, step) and (run, probe, step): a resumed run overwrites what it repeats.
"""

from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sqlalchemy import func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.database import Base
from app.core.nonfinite import nonfinite_to_none
from app.store.probes import PositionStep, Probe, ProbeAnswer, ProbePosition, ProbeStep
from app.store.runs import Metric, ReferenceLogprob, Run
from app.store.scores import Score
from chesboard.records import (
    AnswerRecord,
    FinalRecord,
    LedgerRecord,
    MetricRecord,
    PositionRecord,
    PositionStepRecord,
    ProbeRecord,
    ProbeStepRecord,
    ScoreRecord,
)


class StaleLeaseError(Exception):
    """The run is not (or no longer) this worker's to write to."""


@dataclass(frozen=True, slots=True)
class Progress:
    done: int
    total: int
    unit: str
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class Phase:
    """What a run does now and, where that is counted, how far it is."""

    name: str
    done: int | None = None
    total: int | None = None
    unit: str | None = None
    eta_seconds: float | None = None


@dataclass(slots=True)
class Batch:
    """Records of one run that are written together."""

    metrics: list[MetricRecord] = field(default_factory=list)
    probes: list[ProbeRecord] = field(default_factory=list)
    probe_steps: list[ProbeStepRecord] = field(default_factory=list)
    positions: list[PositionRecord] = field(default_factory=list)
    position_steps: list[PositionStepRecord] = field(default_factory=list)
    answers: list[AnswerRecord] = field(default_factory=list)
    finals: list[FinalRecord] = field(default_factory=list)
    scores: list[ScoreRecord] = field(default_factory=list)
    reference: list[tuple[int, float, float]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    progress: Progress | None = None
    phase: Phase | None = None
    device: str | None = None
    checkpointed: bool = False
    """A checkpoint of all that came before was written."""

    def __len__(self) -> int:
        lists = (
            self.metrics,
            self.probes,
            self.probe_steps,
            self.positions,
            self.position_steps,
            self.answers,
            self.finals,
            self.scores,
            self.reference,
            self.messages,
        )
        return (
            sum(len(records) for records in lists)
            + (self.progress is not None)
            + (self.phase is not None)
            + (self.device is not None)
            + self.checkpointed
        )

    @property
    def secures(self) -> bool:
        """Whether the run gets further for good: no later try will do this work again."""
        return bool(self.checkpointed or self.scores or self.reference)


def write(session: Session, run_id: int, token: str, batch: Batch) -> int:
    """Store a batch and return the run's new revision.

    Raises:
        StaleLeaseError: the lease is no longer this worker's; nothing is written.
    """
    revision = _open(session, run_id, token, batch)
    stamp = {"run_id": run_id, "revision": revision}
    _upsert(
        session,
        Metric,
        [{**stamp, **asdict(record)} for record in batch.metrics],
        ["run_id", "step"],
    )
    _upsert(
        session,
        Probe,
        [
            {
                "run_id": run_id,
                **asdict(record),
                "watched": nonfinite_to_none(record.watched),
                "predicted": nonfinite_to_none(record.predicted),
            }
            for record in batch.probes
        ],
        ["run_id", "pair"],
    )
    _upsert(
        session,
        ProbeStep,
        [{**stamp, **_with_ledger(record)} for record in batch.probe_steps],
        ["run_id", "pair", "step"],
    )
    place = ["run_id", "pair", "response", "position"]
    _upsert(
        session,
        ProbePosition,
        [
            {
                "run_id": run_id,
                **asdict(record),
                "watched": nonfinite_to_none(record.watched),
                "predicted": nonfinite_to_none(record.predicted),
            }
            for record in batch.positions
        ],
        place,
    )
    _upsert(
        session,
        PositionStep,
        [{"run_id": run_id, **_with_ledger(record)} for record in batch.position_steps],
        [*place, "step"],
    )
    _upsert(
        session,
        ProbeAnswer,
        [{**stamp, **asdict(record)} for record in batch.answers],
        ["run_id", "pair", "step"],
    )
    _upsert(
        session,
        Score,
        [{"run_id": run_id, **asdict(record)} for record in batch.scores],
        ["run_id", "pair"],
    )
    _upsert(
        session,
        ReferenceLogprob,
        [
            {"run_id": run_id, "pair": pair, "preferred": preferred, "dispreferred": dispreferred}
            for pair, preferred, dispreferred in batch.reference
        ],
        ["run_id", "pair"],
    )
    _upsert(
        session,
        ReferenceLogprob,
        [{"run_id": run_id, **asdict(record)} for record in batch.finals],
        ["run_id", "pair"],
    )
    return revision


def _open(session: Session, run_id: int, token: str, batch: Batch) -> int:
    """Lock the run's row, check the lease, and write what stands in the row itself."""
    values: dict[str, Any] = {"revision": Run.revision + 1}
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
    if batch.secures:
        values["tries_here"] = 1  # this one
    row = session.execute(
        update(Run)
        .where(Run.id == run_id, Run.lease_token == token, Run.status == "running")
        .values(**values)
        .returning(Run.revision, Run.messages)
    ).one_or_none()
    if row is None:
        raise StaleLeaseError(f"run {run_id} is no longer this worker's")
    fresh = [text for text in batch.messages if text not in row.messages]
    if fresh:
        session.execute(
            update(Run).where(Run.id == run_id).values(messages=[*row.messages, *fresh])
        )
    return int(row.revision)


def _with_ledger(record: ProbeStepRecord | PositionStepRecord) -> dict[str, Any]:
    """The record's columns, and beside them those of its ledger."""
    names = [field.name for field in fields(record) if field.name != "ledger"]
    return {name: getattr(record, name) for name in names} | _ledger_columns(record.ledger)


def _ledger_columns(ledger: LedgerRecord) -> dict[str, Any]:
    columns = asdict(ledger)
    for name in ("gainers", "losers", "recent"):
        columns[name] = nonfinite_to_none(columns[name])
    for name in ("watched_probs", "predicted_changes"):
        columns[name] = _single(columns[name])
    return columns


def _single(values: Sequence[float]) -> list[float]:
    """In the precision that they are stored in: what is too small for it becomes zero. PostgreSQL
    would refuse it as an underflow, and the run would end there."""
    return array("f", values).tolist()


def _upsert(
    session: Session, table: type[Base], rows: list[dict[str, Any]], key: list[str]
) -> None:
    if not rows:
        return
    statement = insert(table)
    changed: dict[str, Any] = {
        name: statement.excluded[name] for name in rows[0] if name not in key
    }
    if "recorded_at" in table.__table__.c:
        changed["recorded_at"] = func.clock_timestamp()
    session.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)
