"""Storage of what workers compute of their shards: one transaction a batch, which locks the run's
row, renews the lease of the shard by its token, and stores the records."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, get_args

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.store.findings import tally_findings
from app.store.leases import clock
from app.store.recording import (
    Batch,
    Phase,
    Progress,
    StaleLeaseError,
    add_messages,
    columns_of,
    write_records,
)
from app.store.runs import Run
from app.store.shards.leasing import change_own, lock
from app.store.shards.progress import RunProgress, read_progress
from app.store.shards.tables import RunShard
from chesboard.reporting import PhaseName
from chesboard.tallies import Tallies

_ORDER = {name: place for place, name in enumerate(get_args(PhaseName))}
COMPUTING: frozenset[str] = frozenset({"scoring", "generating"})
"""Phases in which the results of a run come; their progress is that of the run."""


def write(session: Session, run_id: int, token: str, batch: Batch, lease: timedelta) -> int:
    """Store a batch of a shard, renew its lease and return the run's new revision. What the run
    shows of progress and time left is that of all its workers.

    Raises:
        StaleLeaseError: the lease is no longer this worker's; nothing is written.
    """
    revision = _hold(session, run_id, token, lease, batch, **columns_of_shard(batch))
    write_records(session, run_id, revision, batch.records)
    return revision


def columns_of_shard(batch: Batch) -> dict[str, Any]:
    """What a batch changes in the row of its shard."""
    values: dict[str, Any] = {}
    if batch.progress is not None:
        values |= {
            "done": batch.progress.done,
            "advanced": batch.progress.advanced,
            "seconds": batch.progress.seconds,
        }
    if batch.has_durable_progress:
        values["tries_here"] = 1  # the current one
    return values


def record_read(
    session: Session,
    run_id: int,
    token: str,
    lease: timedelta,
    found: dict[str, Any],
    total: int,
    messages: Callable[[dict[str, int], Tallies], list[str]],
) -> int:
    """Store what tokenizing showed of a shard's pairs, and write anew what the run says of all that
    were tokenized. Returns the run's revision.

    found: counts. total: how much is to be done of the shard. messages: made of the counts and
    findings of all shards that were read.

    Raises:
        StaleLeaseError: the lease is no longer this worker's; nothing is written.
    """
    revision = _hold(session, run_id, token, lease, Batch(), found=found, total=total)
    texts = messages(counts_of(session, run_id), tally_findings(session, run_id))
    total_of_run = read_progress(session, run_id).total
    session.execute(
        update(Run).where(Run.id == run_id).values(pair_messages=texts, progress_total=total_of_run)
    )
    return revision


def counts_of(session: Session, run_id: int) -> dict[str, int]:
    """The counts that the shards of a run found, added up."""
    merged: Counter[str] = Counter()
    for found in session.scalars(select(RunShard.found).where(RunShard.run_id == run_id)):
        merged.update({name: value for name, value in found.items() if not isinstance(value, str)})
    return merged


def texts_of(session: Session, run_id: int, name: str) -> list[str]:
    """What the shards of a run found under this name, each text once."""
    value = RunShard.found[name].astext
    query = select(value).where(RunShard.run_id == run_id, value.is_not(None))
    return sorted(set(session.scalars(query)))


def _hold(
    session: Session, run_id: int, token: str, lease: timedelta, batch: Batch, **values: Any
) -> int:
    """Lock the run's row, change the shard under its lease, and write the columns of the run."""
    run = lock(session, run_id)
    until = clock(None) + lease
    if run is None or not change_own(session, run_id, token, lease_expires_at=until, **values):
        raise StaleLeaseError(f"a shard of run {run_id} is no longer this worker's")
    columns = columns_of(batch) | {"lease_expires_at": until}
    if batch.progress is not None:
        columns |= progress_of_all(
            read_progress(session, run_id),
            batch.progress.unit,
            is_of_phase=_counts_for(batch.phase, batch.progress),
        )
    if not _is_shown(run.phase, batch.phase):
        columns = {name: value for name, value in columns.items() if name not in _OF_PHASE}
    revision = session.execute(
        update(Run).where(Run.id == run_id).values(**columns).returning(Run.revision)
    ).scalar_one()
    add_messages(session, run_id, batch.messages)
    return revision


def progress_of_all(progress: RunProgress, unit: str, *, is_of_phase: bool) -> dict[str, Any]:
    """The columns of a run that say how far all of its workers are. is_of_phase: those of its
    present phase, too."""
    columns = {
        "progress_done": progress.done,
        "progress_total": progress.total,
        "progress_unit": unit,
        "eta_seconds": progress.eta_seconds,
    }
    if is_of_phase:
        columns |= {
            "phase_done": progress.done,
            "phase_total": progress.total,
            "phase_unit": unit,
            "phase_eta_seconds": progress.eta_seconds,
        }
    return columns


def _counts_for(phase: Phase | None, progress: Progress) -> bool:
    """Whether the progress of a run is that of its phase, which may count something else: layers,
    of a model of which one at a time is in memory."""
    return phase is not None and phase.name in COMPUTING and phase.unit == progress.unit


_OF_PHASE = frozenset({"phase", "phase_done", "phase_total", "phase_unit", "phase_eta_seconds"})


def _is_shown(present: str | None, phase: Phase | None) -> bool:
    """Whether a run enters this phase of one of its workers: it shows that of the furthest."""
    return phase is not None and (present is None or _ORDER[phase.name] >= _ORDER[present])
