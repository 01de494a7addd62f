"""Creating an external run, recording it, going back to a checkpoint, and ending it.

Each function works in the caller's transaction. The run's row is locked first, so that no batch of
an attempt is stored once a later attempt has begun.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.core.errors import ConflictError, TooLargeError, invalid_field
from app.core.settings import get_settings
from app.runs.external.fitting import check_fit
from app.runs.external.matching import match
from app.runs.external.pace import advance, show_progress
from app.runs.external.reading import SentBatch
from app.runs.external.schemas import Ending
from app.runs.schemas import MAX_NAME, NewRun
from app.runs.validation import check_config, check_storable, lock_dataset
from app.store import recording
from app.store.datasets import Dataset
from app.store.external import ExternalRun, Rewind
from app.store.lookup import require_run
from app.store.probes import PositionStep, Probe, ProbeAnswer, ProbeStep
from app.store.revisions import next_revision
from app.store.runs import EXTERNAL, FINAL, Metric, ReferenceLogprob, Run
from chesboard.configs import ExternalConfig, ExternalProbe
from chesboard.records import ProbeRecord, Record

MAX_CONFIG_BYTES = 64 << 10
"""Of a configuration, as JSON, without its probes."""
MAX_SUMMARY_BYTES = 256 << 10
MAX_RECORDS_OF_RUN = 2_000_000
MAX_MESSAGES = 100
"""Of a run; what its trainer says beyond that is in the trainer's log alone."""

_BY_STEP: tuple[type[Any], ...] = (Metric, ProbeStep, PositionStep, ProbeAnswer)
"""The tables whose rows belong to a step."""


class StaleAttemptError(ConflictError):
    """The caller's trainer has been superseded by one that went on from a checkpoint."""

    def __init__(self, run: Run) -> None:
        super().__init__(
            f"Run {run.id} is recorded by attempt {run.attempts} now: its training was resumed "
            "elsewhere. Stop sending.",
            code="stale_attempt",
            attempt=run.attempts,
        )


def lease() -> timedelta:
    return get_settings().external_lease


def create(session: Session, wanted: NewRun) -> tuple[Run, bool]:
    """The external run with the client's key, and whether it was made now.

    Raises:
        InvalidInputError: a setting is invalid or the dataset does not exist; names the field.
    """
    if wanted.key is None:
        raise invalid_field("key", "Field required: a UUID of the client's own.")
    # Two requests with one key: the second waits, and finds the run of the first.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(wanted.key.hex, 0))))
    found = session.scalar(
        select(Run).join(ExternalRun, ExternalRun.run_id == Run.id).where(_has_key(wanted))
    )
    if found is not None:
        return found, False
    config = check_config(EXTERNAL, wanted.config)
    assert isinstance(config, ExternalConfig)
    stored = config.model_dump(mode="json", exclude={"probes"})
    if len(json.dumps(stored)) > MAX_CONFIG_BYTES:
        raise invalid_field(
            "config", f"has more than {MAX_CONFIG_BYTES >> 10} KiB besides its probes"
        )
    dataset = _dataset(session, wanted)
    on = f" on {dataset.name}" if dataset else ""
    run = Run(
        kind=EXTERNAL,
        name=wanted.name or f"{config.objective}{on}, {config.trainer}"[:MAX_NAME],
        status="running",
        dataset_id=None if dataset is None else dataset.id,
        # The texts of the probes stand with the run's probes: lists of runs stay short.
        config=stored | {"probes": [{"pair": one.pair, "name": one.name} for one in config.probes]},
        progress_total=config.max_steps,
        progress_unit="steps",
        attempts=1,
        started_at=func.clock_timestamp(),
        lease_expires_at=func.clock_timestamp() + lease(),
        revision=1,
    )
    session.add(run)
    session.flush()
    external = ExternalRun(run_id=run.id, key=wanted.key.hex)
    session.add(external)
    probes = _distinct(config.probes)
    session.add_all(_probe(run.id, one) for one in probes)
    match(session, run, external, probes)
    session.flush()
    session.refresh(run)
    return run, True


def _has_key(wanted: NewRun) -> Any:
    assert wanted.key is not None
    return ExternalRun.key == wanted.key.hex


def _dataset(session: Session, wanted: NewRun) -> Dataset | None:
    """The dataset that is named, or the newest with the named content, if there is one."""
    if wanted.dataset_id is not None:
        return lock_dataset(session, wanted.dataset_id)
    if wanted.dataset_sha256 is None:
        return None
    return session.scalar(
        select(Dataset)
        .where(Dataset.source_sha256 == wanted.dataset_sha256)
        .order_by(Dataset.id.desc())
        .limit(1)
        .with_for_update(read=True, key_share=True)
    )


def _distinct(probes: list[ExternalProbe]) -> list[ExternalProbe]:
    for number, one in enumerate(probes):
        if one.fork_position >= min(len(one.preferred_tokens), len(one.dispreferred_tokens)):
            raise invalid_field(
                f"config.probes.{number}.fork_position", "must be a position of both responses"
            )
    return list({one.pair: one for one in probes}.values())


def _probe(run_id: int, one: ExternalProbe) -> Probe:
    """As a ProbeRecord tells it, which may follow and say more."""
    return Probe(
        run_id=run_id,
        pair=one.pair,
        prompt=one.prompt,
        preferred_tokens=one.preferred_tokens,
        dispreferred_tokens=one.dispreferred_tokens,
        fork_position=one.fork_position,
        name=one.name,
        groups=[],
        watched=[],
    )


@dataclass(frozen=True, slots=True)
class Recorded:
    run: Run
    recorded_through: int | None
    is_new: bool
    """Whether pages have something to show."""


def receive(session: Session, run_id: int, batch: SentBatch) -> Recorded:
    """Store a batch: all of it or nothing. Sending it again changes nothing.

    Raises:
        NotFoundError, ConflictError: as `_require`.
        InvalidInputError: a record does not fit; names its number and field.
        TooLargeError: the run has MAX_RECORDS_OF_RUN records.
    """
    run, external = _require(session, run_id, batch.attempt)
    check_fit(session, run_id, batch.records)
    external.records += len(batch.records)
    if external.records > MAX_RECORDS_OF_RUN:
        raise TooLargeError(
            f"Run {run_id} has {MAX_RECORDS_OF_RUN:,} records, which is the limit. Record less "
            "often (probe_every), or start a new run."
        )
    came_back = run.status == "lost"
    if came_back:
        run.status = "running"
    _hear(run, external)
    if batch.records:
        last = max((_step(one) for one in batch.records), default=-1)
        if last >= 0:
            advance(session, run, external, last)
        probes = [one for one in batch.records if isinstance(one, ProbeRecord)]
        match(session, run, external, probes)
    is_told = _tell(run, batch.messages)
    session.flush()
    is_new = bool(batch.records) or is_told or came_back
    if is_new:
        revision = next_revision(session, run_id)
        recording.write_records(session, run_id, revision, batch.records)
    session.refresh(run)
    return Recorded(run, external.recorded_through, is_new)


def _tell(run: Run, messages: Sequence[str]) -> bool:
    """Add those that the run does not have yet; whether there were any."""
    new = [text for text in dict.fromkeys(messages) if text not in run.messages]
    new = new[: max(0, MAX_MESSAGES - len(run.messages))]
    if new:
        run.messages = [*run.messages, *new]
    return bool(new)


def rewind(session: Session, run_id: int, step: int) -> Recorded:
    """Begin a new attempt from a checkpoint: what is later than its step is deleted, and batches of
    earlier attempts are refused from now on.

    Raises:
        NotFoundError, ConflictError: as `_require`.
    """
    run, external = _require(session, run_id)
    for table in _BY_STEP:
        session.execute(delete(table).where(table.run_id == run_id, table.step > step))
    session.execute(
        update(ReferenceLogprob)
        .where(ReferenceLogprob.run_id == run_id)
        .values(final_preferred=None, final_dispreferred=None)
    )
    last = [
        session.scalar(select(func.max(table.step)).where(table.run_id == run_id))
        for table in (Metric, ProbeStep)
    ]
    external.recorded_through = max((one for one in last if one is not None), default=None)
    external.advanced_at = func.clock_timestamp()  # what it took to resume is no pace
    run.attempts += 1
    run.status = "running"
    show_progress(run, external)
    run.cancel_requested = False
    run.error = run.finished_at = None
    run.summary = {}
    _hear(run, external)
    session.flush()
    revision = next_revision(session, run_id)
    session.add(Rewind(run_id=run_id, attempt=run.attempts, revision=revision, step=step))
    session.flush()
    session.refresh(run)
    return Recorded(run, external.recorded_through, is_new=True)


def finish(session: Session, run_id: int, ending: Ending) -> tuple[Run, bool]:
    """End a run; whether that is news. A run that has ended stays as it is.

    Raises:
        NotFoundError, ConflictError: as `_require`.
        InvalidInputError: the summary or the error cannot be stored.
    """
    run, external = _require(session, run_id, ending.attempt)
    if run.status in FINAL:
        return run, False
    error = ending.error.model_dump() if ending.error else None
    for name, value in (("summary", ending.summary), ("error", error)):
        check_storable(name, value)
    if len(json.dumps(ending.summary)) > MAX_SUMMARY_BYTES:
        raise invalid_field("summary", f"has more than {MAX_SUMMARY_BYTES >> 10} KiB")
    _hear(run, external)
    run.status = ending.status
    run.summary = ending.summary or {}
    run.error = error
    run.finished_at = func.clock_timestamp()
    run.lease_expires_at = run.eta_seconds = None
    session.flush()
    next_revision(session, run_id)
    session.refresh(run)
    return run, True


def _require(session: Session, run_id: int, attempt: int | None = None) -> tuple[Run, ExternalRun]:
    """The run, locked, and its external part.

    attempt: the caller's; None: any.

    Raises:
        NotFoundError: no such run: it was deleted, and its trainer stops sending.
        ConflictError: it is not external, or another attempt records it.
    """
    run = require_run(session, run_id, lock=True)
    external = session.get(ExternalRun, run_id)
    if external is None:
        raise ConflictError(
            f"Run {run_id} is a {run.kind} run of this server's own; only external runs are "
            "recorded from elsewhere.",
            code="not_external",
        )
    if attempt is not None and attempt != run.attempts:
        raise StaleAttemptError(run)
    return run, external


def _hear(run: Run, external: ExternalRun) -> None:
    external.heard_at = func.clock_timestamp()
    if run.status not in FINAL:
        run.lease_expires_at = func.clock_timestamp() + lease()


def _step(record: Record) -> int:
    return int(getattr(record, "step", -1))
