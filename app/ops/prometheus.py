"""GET /metrics: the deployment and this process in the Prometheus exposition format.

Metrics of the deployment (queue, leases, workers) are read from PostgreSQL on each scrape, so any
one web process reports all of them; metrics of this process (requests) are counted in it.
"""

import time
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.permissions import UNKNOWN
from app.ops.snapshot import DatabaseState, DeploymentSnapshot, take_snapshot

router = APIRouter(include_in_schema=False)

STATUSES = ("queued", "running", "lost", "succeeded", "failed", "cancelled")
WORKER_METRICS = {
    "memory_bytes": "Resident memory of the worker process.",
    "room_bytes": "Memory that a run may take on the worker's device.",
    "gpu_memory_bytes": "Memory in use on the worker's GPU.",
    "gpu_memory_total_bytes": "Memory of the worker's GPU.",
    "gpu_memory_peak_bytes": "Peak memory reserved by the worker on its GPU.",
    "recorder_waiting": "Records queued in the recorder.",
    "recorder_lag_seconds": "How long the recorder has been retrying its current batch.",
}


class Requests:
    """ASGI middleware: counts and times requests, by route rather than by path.

    The duration ends with the start of the response: event streams stay open.
    """

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self.app = app
        self._seconds = Histogram(
            "chesboard_http_request_seconds",
            "Time until the start of the response.",
            ("method", "route"),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=registry,
        )
        self._count = Counter(
            "chesboard_http_requests",
            "Requests by response status.",
            ("method", "route", "status"),
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                match = scope.get("state", {}).get("match")
                route = match.rule.path if match else UNKNOWN
                # Not the method of an unknown path: it would be a label of the client's choice.
                method = scope["method"] if route != UNKNOWN else "(any)"
                self._seconds.labels(method, route).observe(time.perf_counter() - began)
                self._count.labels(method, route, str(message["status"])).inc()
            await send(message)

        await self.app(scope, receive, send_and_count)


class DeploymentCollector(Collector):
    """Takes a snapshot of the deployment on each scrape."""

    def collect(self) -> Iterator[Metric]:
        yield from families(take_snapshot())

    def describe(self) -> list[Metric]:
        # Without it, registration would call collect().
        return []


def families(snapshot: DeploymentSnapshot) -> Iterator[Metric]:
    """The metrics of one snapshot."""
    yield GaugeMetricFamily("chesboard_database_up", "1: up.", value=_bit(snapshot.database))
    yield GaugeMetricFamily("chesboard_broker_up", "1: up.", value=_bit(snapshot.broker_is_up))
    yield GaugeMetricFamily(
        "chesboard_disk_free_bytes",
        "Free space on the file system of the data folder.",
        value=snapshot.disk_free_bytes,
    )
    if snapshot.database is not None:
        yield from _of_runs(snapshot.database)
        yield from _of_workers(snapshot.database)


def _of_runs(database: DatabaseState) -> Iterator[Metric]:
    runs = GaugeMetricFamily("chesboard_runs", "Runs by status.", labels=("status",))
    for status in STATUSES:
        runs.add_metric((status,), database.runs.get(status, 0))
    yield runs
    yield GaugeMetricFamily(
        "chesboard_queue_length", "Queued runs.", value=database.runs.get("queued", 0)
    )
    yield GaugeMetricFamily(
        "chesboard_queue_oldest_seconds",
        "How long the oldest queued run has waited.",
        value=database.waiting_seconds or 0,
    )
    yield GaugeMetricFamily(
        "chesboard_database_bytes", "Size of the database.", value=database.database_bytes
    )
    for name, text in (
        ("lease_seconds_left", "Until the lease of a running run expires; negative: expired."),
        ("recorded_seconds_ago", "Time since the last step of a running run was stored."),
        ("step_seconds", "Mean time per step of a running run, over its last steps."),
        ("tokens_per_second", "Throughput of a running run's last step."),
        ("quiet_seconds", "Time since the worker of a running run last reported anything."),
    ):
        family = GaugeMetricFamily(f"chesboard_run_{name}", text, labels=("run",))
        for run in database.running:
            if (value := getattr(run, name)) is not None:
                family.add_metric((str(run.id),), value)
        yield family


def _of_workers(database: DatabaseState) -> Iterator[Metric]:
    seen = GaugeMetricFamily(
        "chesboard_worker_seen_seconds_ago",
        "Time since a worker was last seen.",
        labels=("worker",),
    )
    busy = GaugeMetricFamily("chesboard_worker_busy", "1: executes a run.", labels=("worker",))
    for worker in database.workers:
        seen.add_metric((worker.name,), worker.seen_seconds_ago)
        busy.add_metric((worker.name,), _bit(worker.run_id))
    yield seen
    yield busy
    for name, text in WORKER_METRICS.items():
        family = GaugeMetricFamily(f"chesboard_worker_{name}", text, labels=("worker",))
        for worker in database.workers:
            if name in worker.report:
                family.add_metric((worker.name,), float(worker.report[name]))
        yield family


def _bit(value: object) -> int:
    return 0 if value is None or value is False else 1


def make_registry() -> CollectorRegistry:
    """A registry per application: tests have several in one process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(DeploymentCollector())
    return registry


@router.get("/metrics")
def show_metrics(request: Request) -> Response:
    registry: CollectorRegistry = request.app.state.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
