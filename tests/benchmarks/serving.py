"""Embedded servers and a real web process for benchmarks, in a folder that is thrown away."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from app import migrations
from app.services import Services, free_port, start_services
from app.settings import PROJECT_ROOT
from tests.support import embedded_settings, eventually, short_folder


@contextmanager
def serving() -> Iterator[tuple[Services, str]]:
    """PostgreSQL and Valkey, migrated, and the address of a web server over them."""
    with short_folder() as folder:
        services = start_services(embedded_settings(folder), durable=False)
        migrations.upgrade(services.database_url)
        port = free_port()
        environment = os.environ | {
            "DATABASE_URL": services.database_url,
            "REDIS_URL": services.redis_url,
            "CHESBOARD_DATA_DIR": str(folder),
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
