"""What can be seen of the whole from outside a request: workers, queue, leases, storage.

One look, made of a few short queries, for the status page, its JSON and /metrics.
"""

import shutil
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import redis
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.broker import get_redis
from app.core.database import transaction
from app.core.settings import get_settings
from app.store.runs import Metric, Run, Worker

STEPS_LOOKED_AT = 20
FAILED_LATELY = timedelta(hours=24)
FORGOTTEN_AFTER = timedelta(days=1)
"""A worker that was silent for so long is not spoken of any more."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    name: str
    device: str
    run_id: int | None
    seen_seconds_ago: float
    is_live: bool
    """Heard of within a lease."""
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunningRun:
    id: int
    name: str
    worker: str | None
    lease_seconds_left: float
    recorded_seconds_ago: float | None
    """Since its last step was stored; None before the first."""
    step_seconds: float | None
    """Mean time from step to step over the last few."""
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class FailedRun:
    id: int
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What PostgreSQL told."""

    server_version: str
    database_bytes: int
    revision: str | None
    now: datetime
    runs: dict[str, int]
    waiting_seconds: float | None
    """How long the oldest queued run has waited."""
    workers: list[WorkerSeen]
    running: list[RunningRun]
    failed_lately: list[FailedRun]


@dataclass(frozen=True, slots=True)
class Observation:
    stored: Stored | None
    """None where the database does not answer."""
    broker_is_up: bool
    disk_free_bytes: int
    disk_total_bytes: int
    expected_revision: str
    database_error: str = field(default="")


def observe() -> Observation:
    """Look now. Takes seconds where a server does not answer."""
    stored, error = _look()
    disk = shutil.disk_usage(_existing_folder())
    return Observation(
        stored=stored,
        broker_is_up=_broker_answers(),
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


def _broker_answers() -> bool:
    try:
        return bool(get_redis().ping())
    except redis.RedisError:
        return False


def _look() -> tuple[Stored | None, str]:
    try:
        with transaction() as session:
            return look(session), ""
    except SQLAlchemyError as error:
        return None, str(getattr(error, "orig", error)).splitlines()[0]


def look(session: Session) -> Stored:
    """What PostgreSQL has to tell; all times by its clock."""
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    counted = session.execute(select(Run.status, func.count().label("number")).group_by(Run.status))
    oldest = session.scalar(
        select(func.min(func.coalesce(Run.finished_at, Run.created_at))).where(
            Run.status == "queued"
        )
    )
    failed = session.scalars(
        select(Run)
        .where(Run.status == "failed", Run.finished_at > now - FAILED_LATELY)
        .order_by(Run.finished_at.desc())
        .limit(10)
    )
    return Stored(
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
        failed_lately=[
            FailedRun(run.id, run.name, str((run.error or {}).get("message", ""))) for run in failed
        ],
    )


def _workers(session: Session, now: datetime) -> list[WorkerSeen]:
    lease = get_settings().lease
    rows = session.scalars(
        select(Worker).where(Worker.seen_at > now - FORGOTTEN_AFTER).order_by(Worker.name)
    )
    return [
        WorkerSeen(
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
        .limit(STEPS_LOOKED_AT)
    ).all()
    left = (run.lease_expires_at - now).total_seconds() if run.lease_expires_at else 0.0
    ago = per_step = speed = None
    if steps:
        last, first = steps[0], steps[-1]
        ago = max(0.0, (now - last.recorded_at).total_seconds())
        speed = last.tokens_per_second
        if last.step > first.step:
            seconds = (last.recorded_at - first.recorded_at).total_seconds()
            per_step = max(0.0, seconds) / (last.step - first.step)
    return RunningRun(run.id, run.name, run.worker, left, ago, per_step, speed)
