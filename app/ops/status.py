"""GET /api/v1/status: the state of the deployment, its problems, and what to do about each."""

import importlib.metadata
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.core.settings import Settings, get_settings
from app.ops.snapshot import DatabaseState, DeploymentSnapshot, take_snapshot
from app.store.runs import QUIET_AFTER

router = APIRouter(tags=["health"])

MAX_WAIT_SECONDS = 60.0
MIN_DISK_BYTES = 2 << 30
MAX_LAG_SECONDS = 10.0


class Finding(BaseModel):
    level: Literal["bad", "warn"]
    what: str
    advice: str


class WorkerStatus(BaseModel):
    name: str
    device: str
    run_id: int | None
    seen_seconds_ago: float
    is_live: bool = Field(description="Seen within the duration of a lease.")
    report: dict[str, Any] = Field(
        description="Device, memory in bytes, and the recorder's backlog."
    )


class RunningStatus(BaseModel):
    id: int
    name: str
    worker: str | None
    workers: int = Field(description="How many do it at once.")
    lease_seconds_left: float = Field(description="Negative: expired. The latest of all workers'.")
    recorded_seconds_ago: float | None = Field(description="Time since its last step was stored.")
    step_seconds: float | None = Field(description="Mean time per step over the last steps.")
    tokens_per_second: float | None
    quiet_seconds: float | None = Field(
        description="Time since its worker last reported anything; null for external runs."
    )


class Status(BaseModel):
    sentence: str
    findings: list[Finding]
    version: str
    database: Literal["ok", "down"]
    database_version: str | None
    database_bytes: int | None
    schema_revision: str | None
    expected_revision: str
    broker: Literal["ok", "down"]
    disk_free_bytes: int
    disk_total_bytes: int
    runs: dict[str, int] = Field(description="Number of runs by status.")
    oldest_waiting_seconds: float | None
    workers: list[WorkerStatus]
    running: list[RunningStatus]


@router.get("/status")
def get_status() -> Status:
    """Workers, queue, leases and storage, with the current problems and what to do about them."""
    return describe(take_snapshot(), get_settings())


def describe(snapshot: DeploymentSnapshot, settings: Settings) -> Status:
    findings = find(snapshot, settings)
    state = snapshot.database
    return Status(
        sentence=_sentence(state, findings),
        findings=findings,
        version=importlib.metadata.version("chesboard"),
        database="ok" if state else "down",
        database_version=state.server_version if state else None,
        database_bytes=state.database_bytes if state else None,
        schema_revision=state.revision if state else None,
        expected_revision=snapshot.expected_revision,
        broker="ok" if snapshot.broker_is_up else "down",
        disk_free_bytes=snapshot.disk_free_bytes,
        disk_total_bytes=snapshot.disk_total_bytes,
        runs=state.runs if state else {},
        oldest_waiting_seconds=state.waiting_seconds if state else None,
        workers=[WorkerStatus(**asdict(worker)) for worker in state.workers] if state else [],
        running=[RunningStatus(**asdict(run)) for run in state.running] if state else [],
    )


def _sentence(database: DatabaseState | None, findings: list[Finding]) -> str:
    if any(finding.level == "bad" for finding in findings):
        return "There are problems."
    if findings:
        return "Operational, with warnings."
    if database and database.running:
        count = len(database.running)
        return f"Operational; {_counted(count, 'run')} in progress."
    return "Operational; no run in progress."


def find(snapshot: DeploymentSnapshot, settings: Settings) -> list[Finding]:
    """Problems and warnings, problems first."""
    found = [*_of_services(snapshot), *_of_disk(snapshot, settings)]
    if snapshot.database is not None:
        found += [*_of_workers(snapshot.database), *_of_runs(snapshot.database)]
    return sorted(found, key=lambda finding: finding.level != "bad")


def _of_services(snapshot: DeploymentSnapshot) -> list[Finding]:
    found = []
    if snapshot.database is None:
        found.append(
            Finding(
                level="bad",
                what=f"The database does not answer: {snapshot.database_error}",
                advice="Check that PostgreSQL is running and DATABASE_URL is correct. Workers "
                "buffer their measurements and write them once it is back.",
            )
        )
    elif snapshot.database.revision != snapshot.expected_revision:
        found.append(
            Finding(
                level="bad",
                what=f"The database has schema {snapshot.database.revision}, and this version "
                f"expects {snapshot.expected_revision}.",
                advice="Run `chesboard migrate`, then restart the web server and the workers.",
            )
        )
    if not snapshot.broker_is_up:
        found.append(
            Finding(
                level="bad",
                what="The broker (Redis or Valkey) does not answer.",
                advice="Check that it is running and REDIS_URL is correct. Runs in progress "
                "continue; queued ones start, and pages update, with a delay.",
            )
        )
    return found


def _of_disk(snapshot: DeploymentSnapshot, settings: Settings) -> list[Finding]:
    if snapshot.disk_free_bytes >= MIN_DISK_BYTES:
        return []
    return [
        Finding(
            level="warn",
            what=f"Only {snapshot.disk_free_bytes / 1e9:.1f} GB are free for {settings.data_dir}.",
            advice="Delete runs that are not needed: each stores checkpoints and its result.",
        )
    ]


def _of_workers(database: DatabaseState) -> list[Finding]:
    live = [worker for worker in database.workers if worker.is_live]
    waiting = database.runs.get("queued", 0)
    found = [
        Finding(
            level="warn",
            what=f"Worker {worker.name} was last seen {worker.seen_seconds_ago:.0f} s ago.",
            advice="If it was stopped, nothing needs to be done: another worker resumes its run. "
            "Otherwise see its log.",
        )
        for worker in database.workers
        if not worker.is_live
    ]
    if waiting and not live:
        found.append(
            Finding(
                level="bad",
                what=f"{_counted(waiting, 'run')} in the queue, and no worker is running.",
                advice="Start one with `chesboard worker` (or everything with `chesboard up`).",
            )
        )
    idle = [worker for worker in live if worker.run_id is None]
    if idle and (database.waiting_seconds or 0) > MAX_WAIT_SECONDS:
        found.append(
            Finding(
                level="warn",
                what=f"A run has been queued for {database.waiting_seconds:.0f} s although "
                f"{idle[0].name} is idle.",
                advice="Restart that worker and see its log: it does not receive tasks.",
            )
        )
    found += [
        Finding(
            level="warn",
            what=f"Worker {worker.name} has been trying to store its measurements for "
            f"{worker.report['recorder_lag_seconds']:.0f} s.",
            advice="The database is slow or down. No data is lost: the worker retries.",
        )
        for worker in live
        if worker.report.get("recorder_lag_seconds", 0) > MAX_LAG_SECONDS
    ]
    return found


def _of_runs(database: DatabaseState) -> list[Finding]:
    found = [
        Finding(
            level="warn",
            what=f"The worker of run {run.id} “{run.name}” stopped responding; its lease expired "
            f"{-run.lease_seconds_left:.0f} s ago.",
            advice="The run is queued again within seconds and resumes from its last checkpoint.",
        )
        for run in database.running
        if run.lease_seconds_left < 0
    ]
    found += [
        Finding(
            level="warn",
            what=f"Run {run.id} “{run.name}” has reported nothing for "
            f"{run.quiet_seconds / 60:.0f} min.",
            advice="A step of a very large model may take so long; else something holds its worker "
            "up. Cancel the run, or restart the worker.",
        )
        for run in database.running
        if run.quiet_seconds is not None and run.quiet_seconds > QUIET_AFTER.total_seconds()
    ]
    found += [
        Finding(
            level="warn",
            what=f"Run {run.id} “{run.name}” failed in the last 24 hours: {run.message}",
            advice="See the run's page; resume or delete it.",
        )
        for run in database.recent_failures
    ]
    return found


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
