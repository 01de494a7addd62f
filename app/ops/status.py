"""The status of the whole in plain words: what is wrong, and what to do about it."""

import importlib.metadata
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.core.settings import Settings, get_settings
from app.ops.snapshot import Observation, Stored, observe

router = APIRouter(tags=["health"])

WAITS_TOO_LONG_SECONDS = 60.0
LITTLE_DISK_BYTES = 2 << 30
LAG_SECONDS = 10.0


class Finding(BaseModel):
    level: Literal["bad", "warn"]
    what: str
    advice: str


class WorkerStatus(BaseModel):
    name: str
    device: str
    run_id: int | None
    seen_seconds_ago: float
    is_live: bool = Field(description="Heard of within a lease.")
    report: dict[str, Any] = Field(description="Memory in bytes, and the recorder's backlog.")


class RunningStatus(BaseModel):
    id: int
    name: str
    worker: str | None
    lease_seconds_left: float = Field(description="Negative: it has run out.")
    recorded_seconds_ago: float | None = Field(description="Since its last step was stored.")
    step_seconds: float | None = Field(description="Mean over the last steps.")
    tokens_per_second: float | None


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
    runs: dict[str, int] = Field(description="How many runs have each status.")
    oldest_waiting_seconds: float | None
    workers: list[WorkerStatus]
    running: list[RunningStatus]


@router.get("/status")
def get_status() -> Status:
    """Workers, queue, leases, storage, and what is wrong in plain words."""
    return describe(observe(), get_settings())


def describe(seen: Observation, settings: Settings) -> Status:
    findings = find(seen, settings)
    stored = seen.stored
    return Status(
        sentence=_sentence(stored, findings),
        findings=findings,
        version=importlib.metadata.version("chesboard"),
        database="ok" if stored else "down",
        database_version=stored.server_version if stored else None,
        database_bytes=stored.database_bytes if stored else None,
        schema_revision=stored.revision if stored else None,
        expected_revision=seen.expected_revision,
        broker="ok" if seen.broker_is_up else "down",
        disk_free_bytes=seen.disk_free_bytes,
        disk_total_bytes=seen.disk_total_bytes,
        runs=stored.runs if stored else {},
        oldest_waiting_seconds=stored.waiting_seconds if stored else None,
        workers=[WorkerStatus(**asdict(worker)) for worker in stored.workers] if stored else [],
        running=[RunningStatus(**asdict(run)) for run in stored.running] if stored else [],
    )


def _sentence(stored: Stored | None, findings: list[Finding]) -> str:
    if any(finding.level == "bad" for finding in findings):
        return "Something is wrong."
    if findings:
        return "It works, and something needs a look."
    if stored and stored.running:
        count = len(stored.running)
        return f"All is well; {count} run{'s' if count > 1 else ''} under way."
    return "All is well; nothing runs."


def find(seen: Observation, settings: Settings) -> list[Finding]:
    """What is wrong, the worst first."""
    found = [*_of_services(seen), *_of_disk(seen, settings)]
    if seen.stored is not None:
        found += [*_of_workers(seen.stored), *_of_runs(seen.stored)]
    return sorted(found, key=lambda finding: finding.level != "bad")


def _of_services(seen: Observation) -> list[Finding]:
    found = []
    if seen.stored is None:
        found.append(
            Finding(
                level="bad",
                what=f"The database does not answer: {seen.database_error}",
                advice="See that PostgreSQL runs and DATABASE_URL is right. Workers keep what they "
                "measure and write it once it is back.",
            )
        )
    elif seen.stored.revision != seen.expected_revision:
        found.append(
            Finding(
                level="bad",
                what=f"The database has schema {seen.stored.revision}, and this version expects "
                f"{seen.expected_revision}.",
                advice="Run `chesboard migrate`, then restart the web server and the workers.",
            )
        )
    if not seen.broker_is_up:
        found.append(
            Finding(
                level="bad",
                what="The broker (Redis or Valkey) does not answer.",
                advice="See that it runs and REDIS_URL is right. Runs that are under way go on; "
                "queued ones start, and pages update, with a delay.",
            )
        )
    return found


def _of_disk(seen: Observation, settings: Settings) -> list[Finding]:
    if seen.disk_free_bytes >= LITTLE_DISK_BYTES:
        return []
    return [
        Finding(
            level="warn",
            what=f"Only {seen.disk_free_bytes / 1e9:.1f} GB are free for {settings.data_dir}.",
            advice="Delete runs that are not needed: each keeps checkpoints and its result.",
        )
    ]


def _of_workers(stored: Stored) -> list[Finding]:
    live = [worker for worker in stored.workers if worker.is_live]
    waiting = stored.runs.get("queued", 0)
    found = [
        Finding(
            level="warn",
            what=f"Worker {worker.name} was last heard of {worker.seen_seconds_ago:.0f} s ago.",
            advice="Where it was stopped, nothing is to be done: its run is given to another. "
            "Otherwise see its log.",
        )
        for worker in stored.workers
        if not worker.is_live
    ]
    if waiting and not live:
        found.append(
            Finding(
                level="bad",
                what=f"{_counted(waiting, 'run')} in the queue, and no worker.",
                advice="Start one with `chesboard worker` (or everything with `chesboard up`).",
            )
        )
    idle = [worker for worker in live if worker.run_id is None]
    if idle and (stored.waiting_seconds or 0) > WAITS_TOO_LONG_SECONDS:
        found.append(
            Finding(
                level="warn",
                what=f"A run has waited for {stored.waiting_seconds:.0f} s although "
                f"{idle[0].name} is idle.",
                advice="Restart that worker, and see its log: it does not hear of runs.",
            )
        )
    found += [
        Finding(
            level="warn",
            what=f"Worker {worker.name} has been trying to store its measurements for "
            f"{worker.report['recorder_lag_seconds']:.0f} s.",
            advice="The database is slow or away. Nothing is lost: the worker waits.",
        )
        for worker in live
        if worker.report.get("recorder_lag_seconds", 0) > LAG_SECONDS
    ]
    return found


def _of_runs(stored: Stored) -> list[Finding]:
    found = [
        Finding(
            level="warn",
            what=f"The worker of run {run.id} “{run.name}” went silent; its lease ran out "
            f"{-run.lease_seconds_left:.0f} s ago.",
            advice="It is taken back within seconds, and goes on from its last checkpoint.",
        )
        for run in stored.running
        if run.lease_seconds_left < 0
    ]
    found += [
        Finding(
            level="warn",
            what=f"Run {run.id} “{run.name}” failed within the last day: {run.message}",
            advice="Its page says what to do; resume or delete it.",
        )
        for run in stored.failed_lately
    ]
    return found


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
