"""A snapshot of the deployment: workers, queue, leases, database, broker and disk.

Read by a few short queries, for the status page, its JSON and /metrics.
"""

import shutil
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.broker import broker_is_up
from app.core.database import transaction
from app.core.settings import get_settings
from app.store.runs import EXTERNAL, Metric, Run, Worker
from app.store.shards.tables import RunShard

RECENT_STEPS = 20
"""Steps that the mean time per step is taken over."""
RECENT_FAILURES = timedelta(hours=24)
WORKER_HISTORY = timedelta(days=1)
"""A worker that was last seen longer ago is not listed."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    name: str
    device: str
    run_id: int | None
    seen_seconds_ago: float
    is_live: bool
    """Seen within the duration of a lease."""
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunningRun:
    id: int
    name: str
    worker: str | None
    """Of a run that several do: who claimed a part of it last."""
    workers: int
    lease_seconds_left: float
    recorded_seconds_ago: float | None
    """Seconds since its last step was stored; None before the first."""
    step_seconds: float | None
    """Mean time per step over the last RECENT_STEPS."""
    tokens_per_second: float | None
    quiet_seconds: float | None
    """Since its worker last reported anything; None in runs of earlier versions."""


@dataclass(frozen=True, slots=True)
class FailedRun:
    id: int
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What was read from PostgreSQL; all times by its clock."""

    server_version: str
    database_bytes: int
    revision: str | None
    now: datetime
    runs: dict[str, int]
    waiting_seconds: float | None
    """How long the oldest queued run has waited; None for an empty queue."""
    workers: list[WorkerState]
    running: list[RunningRun]
    recent_failures: list[FailedRun]


@dataclass(frozen=True, slots=True)
class DeploymentSnapshot:
    database: DatabaseState | None
    """None if the database does not answer."""
    broker_is_up: bool
    disk_free_bytes: int
    disk_total_bytes: int
    expected_revision: str
    database_error: str = field(default="")


def take_snapshot() -> DeploymentSnapshot:
    """Read the state now; takes seconds if PostgreSQL or Redis does not answer."""
    database, error = _read_database()
    disk = shutil.disk_usage(_existing_folder())
    return DeploymentSnapshot(
        database=database,
        broker_is_up=broker_is_up(),
        disk_free_bytes=disk.free,
        disk_total_bytes=disk.total,
        expected_revision=_newest_revision(),
        database_error=error,
    )


def _existing_folder() -> str:
    folder = get_settings().data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    return str(folder)


@lru_cache
def _newest_revision() -> str:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from app.core.resources import folder

    config = Config()
    config.set_main_option("script_location", str(folder("migrations")))
    return ScriptDirectory.from_config(config).get_current_head() or ""


def _read_database() -> tuple[DatabaseState | None, str]:
    try:
        with transaction() as session:
            return read_database(session), ""
    except SQLAlchemyError as error:
        return None, str(getattr(error, "orig", error)).splitlines()[0]


def read_database(session: Session) -> DatabaseState:
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    counted = session.execute(select(Run.status, func.count().label("number")).group_by(Run.status))
    oldest = session.scalar(
        select(func.min(func.coalesce(Run.finished_at, Run.created_at))).where(
            Run.status == "queued"
        )
    )
    failed = session.scalars(
        select(Run)
        .where(Run.status == "failed", Run.finished_at > now - RECENT_FAILURES)
        .order_by(Run.finished_at.desc())
        .limit(10)
    )
    return DatabaseState(
        server_version=str(session.scalar(text("SHOW server_version"))),
        database_bytes=int(
            session.scalar(text("SELECT pg_database_size(current_database())")) or 0
        ),
        revision=session.scalar(text("SELECT version_num FROM alembic_version")),
        now=now,
        runs={row.status: row.number for row in counted},
        waiting_seconds=None if oldest is None else (now - oldest).total_seconds(),
        workers=_workers(session, now),
        running=_running(session, now),
        recent_failures=[
            FailedRun(run.id, run.name, str((run.error or {}).get("message", ""))) for run in failed
        ],
    )


def _workers(session: Session, now: datetime) -> list[WorkerState]:
    lease = get_settings().lease
    rows = session.scalars(
        select(Worker).where(Worker.seen_at > now - WORKER_HISTORY).order_by(Worker.name)
    )
    return [
        WorkerState(
            row.name,
            row.device,
            row.run_id,
            max(0.0, (now - row.seen_at).total_seconds()),
            now - row.seen_at <= lease,
            row.report,
        )
        for row in rows
    ]


def _running(session: Session, now: datetime) -> list[RunningRun]:
    runs = session.scalars(select(Run).where(Run.status == "running").order_by(Run.id))
    return [_running_run(session, run, now) for run in runs]


def _running_run(session: Session, run: Run, now: datetime) -> RunningRun:
    steps = session.execute(
        select(Metric.step, Metric.recorded_at, Metric.tokens_per_second)
        .where(Metric.run_id == run.id)
        .order_by(Metric.step.desc())
        .limit(RECENT_STEPS)
    ).all()
    at_work = session.scalar(
        select(func.count(RunShard.worker.distinct())).where(
            RunShard.run_id == run.id, RunShard.status == "running"
        )
    )
    left = (run.lease_expires_at - now).total_seconds() if run.lease_expires_at else 0.0
    ago = per_step = speed = None
    if steps:
        last, first = steps[0], steps[-1]
        ago = max(0.0, (now - last.recorded_at).total_seconds())
        speed = last.tokens_per_second
        if last.step > first.step:
            seconds = (last.recorded_at - first.recorded_at).total_seconds()
            per_step = max(0.0, seconds) / (last.step - first.step)
    quiet = None
    if run.reported_at is not None and run.kind != EXTERNAL:
        quiet = max(0.0, (now - run.reported_at).total_seconds())
    return RunningRun(run.id, run.name, run.worker, at_work or 1, left, ago, per_step, speed, quiet)
