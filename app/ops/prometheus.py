"""GET /metrics: for Prometheus.

What concerns the whole (queue, leases, workers) is read from PostgreSQL when asked, so that any
one web process tells it; what concerns this process (requests) is counted here.
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
from app.ops.snapshot import Observation, Stored, observe

router = APIRouter(include_in_schema=False)

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
OF_WORKERS = {
    "memory_bytes": "Memory of the worker's process.",
    "gpu_memory_bytes": "Memory in use on the worker's GPU.",
    "gpu_memory_total_bytes": "Memory of the worker's GPU.",
    "gpu_memory_peak_bytes": "Most memory that the worker has reserved on its GPU.",
    "recorder_waiting": "Records that wait to be stored.",
    "recorder_lag_seconds": "How long the recorder has been trying to store its batch.",
}


class Requests:
    """ASGI middleware: counts and times requests, by route rather than by address.

    The time is that until the answer begins: event streams stay open.
    """

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self.app = app
        self._seconds = Histogram(
            "chesboard_http_request_seconds",
            "Time until an answer begins.",
            ("method", "route"),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=registry,
        )
        self._count = Counter(
            "chesboard_http_requests",
            "Requests by what was answered.",
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
                # An unknown method would be a label of a stranger's choice.
                method = scope["method"] if route != UNKNOWN else "(any)"
                self._seconds.labels(method, route).observe(time.perf_counter() - began)
                self._count.labels(method, route, str(message["status"])).inc()
            await send(message)

        await self.app(scope, receive, send_and_count)


class Whole(Collector):
    """Looks when it is asked."""

    def collect(self) -> Iterator[Metric]:
        yield from families(observe())

    def describe(self) -> list[Metric]:
        # Without it, registering would look at once.
        return []


def families(seen: Observation) -> Iterator[Metric]:
    """The metrics of one look."""
    yield GaugeMetricFamily("chesboard_database_up", "1: it answers.", value=_bit(seen.stored))
    yield GaugeMetricFamily("chesboard_broker_up", "1: it answers.", value=_bit(seen.broker_is_up))
    yield GaugeMetricFamily(
        "chesboard_disk_free_bytes", "Where the data folder lies.", value=seen.disk_free_bytes
    )
    if seen.stored is not None:
        yield from _of_runs(seen.stored)
        yield from _of_workers(seen.stored)


def _of_runs(stored: Stored) -> Iterator[Metric]:
    runs = GaugeMetricFamily("chesboard_runs", "Runs by status.", labels=("status",))
    for status in STATUSES:
        runs.add_metric((status,), stored.runs.get(status, 0))
    yield runs
    yield GaugeMetricFamily(
        "chesboard_queue_length", "Runs that wait.", value=stored.runs.get("queued", 0)
    )
    yield GaugeMetricFamily(
        "chesboard_queue_oldest_seconds",
        "How long the oldest queued run has waited.",
        value=stored.waiting_seconds or 0,
    )
    yield GaugeMetricFamily(
        "chesboard_database_bytes", "Size of the database.", value=stored.database_bytes
    )
    for name, text in (
        ("lease_seconds_left", "Until the lease of a running run runs out; negative: it has."),
        ("recorded_seconds_ago", "Since the last step of a running run was stored."),
        ("step_seconds", "Mean time from step to step of a running run, over its last steps."),
        ("tokens_per_second", "Of a running run's last step."),
    ):
        family = GaugeMetricFamily(f"chesboard_run_{name}", text, labels=("run",))
        for run in stored.running:
            if (value := getattr(run, name)) is not None:
                family.add_metric((str(run.id),), value)
        yield family


def _of_workers(stored: Stored) -> Iterator[Metric]:
    seen = GaugeMetricFamily(
        "chesboard_worker_seen_seconds_ago", "Since a worker was heard of.", labels=("worker",)
    )
    busy = GaugeMetricFamily("chesboard_worker_busy", "1: works on a run.", labels=("worker",))
    for worker in stored.workers:
        seen.add_metric((worker.name,), worker.seen_seconds_ago)
        busy.add_metric((worker.name,), _bit(worker.run_id))
    yield seen
    yield busy
    for name, text in OF_WORKERS.items():
        family = GaugeMetricFamily(f"chesboard_worker_{name}", text, labels=("worker",))
        for worker in stored.workers:
            if name in worker.report:
                family.add_metric((worker.name,), float(worker.report[name]))
        yield family


def _bit(value: object) -> int:
    return 0 if value is None or value is False else 1


def make_registry() -> CollectorRegistry:
    """One application's own: several may live in one process (tests)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Whole())
    return registry


@router.get("/metrics")
def show_metrics(request: Request) -> Response:
    registry: CollectorRegistry = request.app.state.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
