"""Writes a backup, also while runs are under way.

All tables are read in one snapshot. Checkpoints of unfinished runs are copied before it, so that
they are never ahead of what is recorded (a resumed run repeats steps and overwrites them); results
of finished runs are copied after it, so that no run has succeeded whose result is missing.
"""

import secrets
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from app.local.backup import tables
from app.local.backup.archive import DUMP, FORMAT, Manifest, Member, add, add_manifest
from app.local.backup.audit import plain_url, record, table_exists
from app.local.errors import SetupError
from app.local.migrate import METADATA
from app.models.queries import RESULT_FOLDER


def back_up(url: str, runs: Path, target: Path) -> Manifest:
    """Write an archive of the database at `url` and of the folder of runs; whole, or not at all.

    Raises:
        SetupError: the target exists or is not writable, or the database cannot be read or has no
            tables of Chesboard's.
    """
    if target.exists():
        raise SetupError(f"{target} exists already. Choose another name, or move it away.")
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with (
            unfinished.open("xb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
            psycopg.connect(plain_url(url)) as connection,
        ):
            unfinished.chmod(0o600)  # it holds people's data
            manifest = _write(archive, connection, plain_url(url), runs, target.parent)
        unfinished.replace(target)
    except OSError as error:
        raise SetupError(f"{target} cannot be written: {error.strerror or error}.") from error
    except psycopg.OperationalError as error:
        raise SetupError(f"The database cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    record(url, "backup.create", target, manifest)
    return manifest


def _write(
    archive: tarfile.TarFile,
    connection: psycopg.Connection[Any],
    url: str,
    runs: Path,
    scratch: Path,
) -> Manifest:
    files: dict[str, Member] = {}
    for path in _files_of(runs):
        if path.relative_to(runs).parts[1] != RESULT_FOLDER:
            _add_file(archive, runs, path, files)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    revision = _revision(connection)
    names = [table.name for table in METADATA.sorted_tables if table_exists(connection, table.name)]
    described = {name: tables.describe(connection, name) for name in names}
    with tempfile.TemporaryFile(dir=scratch) as spooled:  # a tar needs a member's size first
        version = tables.dump(connection, url, names, spooled)
        dumped = add(archive, DUMP, spooled)
    finished = {
        str(row[0])
        for row in connection.execute("SELECT id FROM runs WHERE status = 'succeeded'").fetchall()
    }
    for path in _files_of(runs):
        run, part = path.relative_to(runs).parts[:2]
        if part == RESULT_FOLDER and run in finished:
            _add_file(archive, runs, path, files)
    manifest = Manifest(
        format=FORMAT,
        revision=revision,
        created_at=datetime.now(UTC),
        pg_dump=version,
        dump=dumped,
        tables=described,
        files=files,
    )
    add_manifest(archive, manifest)
    return manifest


def _files_of(runs: Path) -> list[Path]:
    """Regular files of the runs' folders: no links, and no partial files (.name)."""
    if not runs.is_dir():
        return []
    return [
        path
        for folder in sorted(runs.iterdir())
        if folder.name.isdigit() and not folder.is_symlink()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _add_file(archive: tarfile.TarFile, runs: Path, path: Path, files: dict[str, Member]) -> None:
    name = f"files/{path.relative_to(runs).as_posix()}"
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return  # the run was deleted, or its checkpoint replaced, since the listing
    # An open file keeps its content when another takes its name, as a new checkpoint does.
    with file:
        files[name] = add(archive, name, file)


def _revision(connection: psycopg.Connection[Any]) -> str:
    if not table_exists(connection, "alembic_version"):
        raise SetupError("The database lacks Chesboard's tables; there is nothing to back up.")
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""
