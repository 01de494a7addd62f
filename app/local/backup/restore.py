"""Restores a backup, all or nothing.

Every member is checked against the manifest before anything changes. Then, in one transaction, the
tables are created by the migrations up to the backup's revision, filled, and migrated to the
newest; the runs' folder is swapped just before the commit. Runs that were under way return to the
queue.
"""

import gzip
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, inspect, make_url, text

from app.local.backup import tables
from app.local.backup.archive import (
    CHUNK,
    DUMP,
    Manifest,
    open_member,
    read_checked,
    unpack_files,
)
from app.local.backup.audit import record
from app.local.errors import SetupError
from app.local.migrate import ADVISORY_LOCK, METADATA, alembic_config

WORKER_SILENT_SECONDS = 30
"""A worker without a heartbeat for this long has stopped."""


def restore_all(url: str, runs: Path, source: Path, *, force: bool = False) -> Manifest:
    """Replace the database at `url` and the folder of runs by an archive's; all or nothing.

    Raises:
        SetupError: the archive is damaged or not a backup, there is data and no `force`, or a
            worker is running.
    """
    unpacked = runs.with_name(f".{runs.name}.{secrets.token_hex(4)}")
    try:
        with tarfile.open(source, mode="r:") as archive:
            manifest = read_checked(archive)
            unpack_files(archive, manifest, unpacked)
            with _transaction(url) as connection:
                _check_target(connection, force)
                if not force and runs.is_dir() and any(runs.iterdir()):
                    raise SetupError(f"{runs} holds runs. --force replaces them.")
                _fill(connection, archive, manifest, runs.parent)
                _swap(connection, unpacked, runs)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise SetupError(f"{source} is damaged, or not a backup: {error}.") from error
    except OSError as error:
        raise SetupError(f"{source} cannot be restored: {error.strerror or error}.") from error
    except psycopg.Error as error:
        raise SetupError(
            f"PostgreSQL rejected the backup, and nothing was changed: {str(error).splitlines()[0]}"
        ) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    record(url, "backup.restore", source, manifest)
    return manifest


@contextmanager
def _transaction(url: str) -> Iterator[Connection]:
    """One transaction, which the caller commits, under the migrations' advisory lock."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            connection.execute(text("SET LOCAL lock_timeout = '10s'"))
            yield connection
    finally:
        engine.dispose()


def _check_target(connection: Connection, force: bool) -> None:
    existing = set(inspect(connection).get_table_names())
    if "workers" in existing:
        running = connection.scalar(
            text("SELECT name FROM workers WHERE seen_at > now() - make_interval(secs => :s)"),
            {"s": WORKER_SILENT_SECONDS},
        )
        if running is not None:
            raise SetupError(f"Worker {running} is running. Stop it and the web server first.")
    if force:
        return
    for table in METADATA.sorted_tables:
        name = connection.dialect.identifier_preparer.quote(table.name)
        if table.name in existing and connection.scalar(
            text(f"SELECT EXISTS (SELECT FROM {name})")  # noqa: S608 - our own table's name
        ):
            raise SetupError(
                f"The database is not empty: it holds {table.name.replace('_', ' ')}. "
                "--force replaces all data."
            )


def _fill(
    connection: Connection, archive: tarfile.TarFile, manifest: Manifest, scratch: Path
) -> None:
    """Create the tables at the backup's revision, fill them, and migrate to the newest."""
    preparer = connection.dialect.identifier_preparer
    names = [table.name for table in METADATA.sorted_tables] + ["alembic_version"]
    dropped = ", ".join(map(preparer.quote, names))
    connection.execute(text(f"DROP TABLE IF EXISTS {dropped} CASCADE"))
    _migrate(connection, manifest.revision)
    inspector = inspect(connection)
    for name, table in manifest.tables.items():
        if {column["name"] for column in inspector.get_columns(name)} != set(table.columns):
            raise SetupError(
                f"The backup's table {name} is not that of schema {manifest.revision}."
            )
    driver = cast(psycopg.Connection[Any], connection.connection.driver_connection)
    _load(driver, archive, manifest, scratch)
    _migrate(connection, "head")
    driver.execute("DELETE FROM workers")
    driver.execute("DELETE FROM run_seats")
    driver.execute(
        "UPDATE run_shards SET status = 'queued', lease_token = NULL, lease_expires_at = NULL, "
        "tries_here = greatest(tries_here - 1, 0) WHERE status = 'running'"
    )
    driver.execute(
        "UPDATE runs SET status = 'queued', lease_token = NULL, lease_expires_at = NULL, "
        "attempts = greatest(attempts - 1, 0), tries_here = greatest(tries_here - 1, 0), "
        "revision = revision + 1 WHERE status = 'running'"
    )
    # The planner knows nothing yet of tables that were just filled; see app.core.database.analyze.
    driver.execute(f"ANALYZE {', '.join(map(preparer.quote, names))}")


def _load(
    driver: psycopg.Connection[Any], archive: tarfile.TarFile, manifest: Manifest, scratch: Path
) -> None:
    if manifest.dump is None:
        # Parents before children; tables that later versions dropped are not in that order.
        order = {table.name: place for place, table in enumerate(METADATA.sorted_tables)}
        for name in sorted(manifest.tables, key=lambda name: order.get(name, -1)):
            tables.load_copied(driver, archive, name, manifest)
        return
    with tempfile.NamedTemporaryFile(dir=scratch) as dumped:
        shutil.copyfileobj(open_member(archive, DUMP), dumped, CHUNK)
        dumped.flush()
        tables.load_dump(driver, Path(dumped.name), manifest)


def _migrate(connection: Connection, revision: str) -> None:
    try:
        # In the caller's transaction: the migrations do not commit one that is open already.
        command.upgrade(alembic_config(connection), revision)
    except CommandError as error:
        raise SetupError(
            f"The backup has a schema that this version does not know: {error}"
        ) from error


def _swap(connection: Connection, fresh: Path, runs: Path) -> None:
    """Put the restored folder in place and commit; the old one comes back if that fails."""
    old = runs.with_name(f".{runs.name}.old.{secrets.token_hex(4)}")
    if runs.exists():
        runs.rename(old)
    try:
        fresh.rename(runs)
        connection.commit()
    except BaseException:
        if runs.exists():
            shutil.rmtree(runs, ignore_errors=True)
        if old.exists():
            old.rename(runs)
        raise
    shutil.rmtree(old, ignore_errors=True)
