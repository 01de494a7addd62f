"""Embedded servers and a real web process for benchmarks, in a folder that is thrown away."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx

from app.core import broker
from app.core import database as db
from app.core.database import transaction
from app.core.settings import get_settings
from app.local import migrate as migrations
from app.local.embedded import Services, free_port, start_services
from app.store import leases
from tests import PROJECT_ROOT
from tests.app import factories
from tests.support import embedded_settings, eventually, short_folder


@contextmanager
def serving(*, durable: bool = False, **settings: str) -> Iterator[tuple[Services, str]]:
    """PostgreSQL and Valkey, migrated, and the address of a web server over them.

    durable: PostgreSQL waits for its disk at each commit, as it does in use. settings: environment
    variables of the web server.
    """
    with short_folder() as folder:
        services = start_services(embedded_settings(folder), durable=durable)
        migrations.upgrade(services.database_url)
        port = free_port()
        environment = os.environ | {
            "DATABASE_URL": services.database_url,
            "REDIS_URL": services.redis_url,
            "CHESBOARD_DATA_DIR": str(folder),
            **settings,
        }
        web = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "web", "--port", str(port)],
            cwd=PROJECT_ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: _answers(address), seconds=30)
            yield services, address
        finally:
            web.terminate()
            web.wait(20)
            services.stop()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/api/v1/runs", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def client_of(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client


@contextmanager
def recording_to(services: Services) -> Iterator[None]:
    """This process records to the servers that the web process serves from."""
    os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = services.database_url, services.redis_url
    _forget_connections()
    try:
        yield
    finally:
        del os.environ["DATABASE_URL"], os.environ["REDIS_URL"]
        _forget_connections()


def _forget_connections() -> None:
    get_settings.cache_clear()
    db.reset_engine()
    broker.reset_broker()


def claimed_run() -> leases.Claim:
    """A new training run that this process may record. Needs `recording_to`."""
    with transaction() as session:
        dataset = factories.dataset(session)
        run = factories.run(session, dataset.id, status="queued")
    return claim(run.id)


def claim(run_id: int) -> leases.Claim:
    """For longer than any measurement: nothing here renews a lease."""
    with transaction() as session:
        claimed = leases.claim(session, run_id, "bench", timedelta(hours=1))
    assert claimed is not None
    return claimed


def finish(claim: leases.Claim) -> None:
    """End the run and tell those who watch it."""
    with transaction() as session:
        revision = leases.finish(session, claim.run_id, claim.token, "succeeded")
    assert revision is not None
    broker.wake(claim.run_id, revision)
