"""A full database with its runs, and an empty one to restore into."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from app.local import migrate as migrations
from app.local.embedded import Services
from tests import support
from tests.app import filling


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Folders of three runs: one that succeeded, one under way, one that failed."""
    folder = tmp_path / "runs"
    for name, body in {
        "1/model/model.safetensors": b"weights" * 1000,
        "1/model/config.json": b"{}",
        "2/checkpoint/state.safetensors": b"state",
        "2/checkpoint/.state.safetensors.12": b"half",
        "2/model/model.safetensors": b"not of a run that succeeded",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    (folder / "3").mkdir()
    (folder / "3" / "secret").symlink_to("/etc/passwd")
    return folder


@pytest.fixture(scope="package")
def filled(services: Services) -> Iterator[str]:
    """The URL of a database with rows in every table, which tests get copies of."""
    with support.scratch_database(services.database_url, "chesboard_filled") as url:
        migrations.upgrade(url)
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            filling.fill(connection)
            connection.execute(text("UPDATE workers SET seen_at = '2026-01-01'"))
            connection.execute(text("UPDATE runs SET status = 'succeeded' WHERE id = 1"))
            connection.execute(text("UPDATE runs SET status = 'failed' WHERE id = 3"))
            connection.execute(
                text(
                    "UPDATE runs SET status = 'running', attempts = 7, tries_here = 2 WHERE id = 2"
                )
            )
        engine.dispose()
        yield url


@pytest.fixture
def full(services: Services, filled: str, runs: Path) -> Iterator[str]:
    """The URL of a database with rows in every table, and the runs' folders."""
    with support.scratch_database(services.database_url, "chesboard_full", template=filled) as url:
        yield url


@pytest.fixture
def elsewhere(services: Services) -> Iterator[str]:
    """Another database with nothing in it."""
    with support.scratch_database(services.database_url, "chesboard_elsewhere") as url:
        yield url
