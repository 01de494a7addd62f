"""`chesboard backup` and `chesboard restore`: everything that would be missed, in one file.

The archive is a tar:

    files/RUN/...            checkpoints and results, as they lie in the data folder's runs/
    database/TABLE.copy.gz   each table, as PostgreSQL's COPY writes it
    manifest.json            the schema's revision; of each member its size and SHA-256

COPY rather than pg_dump, so that it works with any server and needs no program beside this one.

A backup may be made while runs go on. All tables are read in one snapshot. Checkpoints of
unfinished runs are copied before it, so that they are never ahead of what is recorded (a resumed
run repeats steps and overwrites them); results of finished runs are copied after it, so that no
run is said to have succeeded whose result is missing.

A restore checks every member against the manifest before it changes anything, and then works in
one transaction: the tables are made anew by the migrations up to the backup's revision, filled,
and migrated to the newest. Runs that were under way go back to the queue.
"""

import gzip
import hashlib
import io
import json
import re
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

import psycopg
from alembic import command
from alembic.util import CommandError
from psycopg import sql
from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection, create_engine, inspect, make_url, text

from app.core.settings import Settings
from app.local.embedded import FolderLock, SetupError, running_postgres_url, start_postgres
from app.local.migrate import ADVISORY_LOCK, METADATA, alembic_config
from app.local.processes import Children
from app.models.queries import RESULT_FOLDER

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 256 << 20
CHUNK = 1 << 20
WORKER_SILENT_SECONDS = 30
"""A worker that was not heard of for so long has stopped."""

_TABLE_MEMBER = re.compile(r"database/([a-z][a-z0-9_]*)\.copy\.gz", re.ASCII)
_FILE_MEMBER = re.compile(r"files/\d+(/[^/\0]+)+")


class Table(BaseModel):
    columns: list[str]
    rows: int
    bytes: int
    sha256: str


class File(BaseModel):
    bytes: int
    sha256: str


class Manifest(BaseModel):
    format: int
    revision: str
    created_at: datetime
    tables: dict[str, Table]
    files: dict[str, File]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())


# --- which database ---------------------------------------------------------------------------


@contextmanager
def reachable_database(settings: Settings, *, exclusive: bool = False) -> Iterator[str]:
    """The URL of the database that the settings name.

    The embedded one is started for the time being, or, where `chesboard up` has it running, is
    used as it is; `exclusive` refuses that.

    Raises:
        SetupError: it cannot be reached, or is in use and should not be.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    folder = (settings.data_dir / "postgres").expanduser().resolve()
    lock = FolderLock(folder.parent)
    try:
        lock.acquire("a backup or restore")
    except SetupError:
        if exclusive or (url := running_postgres_url(folder)) is None:
            raise
        yield url
        return
    children = Children()
    try:
        yield start_postgres(folder, children)
    finally:
        children.stop()
        lock.release()


# --- backup -----------------------------------------------------------------------------------


def back_up(url: str, runs: Path, target: Path) -> Manifest:
    """Write an archive of the database at `url` and the folder of runs; whole, or not at all.

    Raises:
        SetupError: the target is there already or cannot be written, or the database is not ours.
    """
    if target.exists():
        raise SetupError(f"{target} is there already. Choose another name, or move it away.")
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with (
            unfinished.open("xb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
            psycopg.connect(_plain(url)) as connection,
        ):
            unfinished.chmod(0o600)  # it holds people's data
            made = _write(archive, connection, runs)
        unfinished.replace(target)
    except OSError as error:
        raise SetupError(f"{target} cannot be written: {error.strerror or error}.") from error
    except psycopg.OperationalError as error:
        raise SetupError(f"The database cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    _note(url, "backup.create", target, made)
    return made


def _write(archive: tarfile.TarFile, connection: psycopg.Connection[Any], runs: Path) -> Manifest:
    files: dict[str, File] = {}
    for path in _files_of(runs):
        if path.relative_to(runs).parts[1] != RESULT_FOLDER:
            _add_file(archive, runs, path, files)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    revision = _revision(connection)
    tables = {
        table.name: _add_table(archive, connection, table.name)
        for table in METADATA.sorted_tables
        if _exists(connection, table.name)
    }
    finished = {
        str(row[0])
        for row in connection.execute("SELECT id FROM runs WHERE status = 'succeeded'").fetchall()
    }
    for path in _files_of(runs):
        run, part = path.relative_to(runs).parts[:2]
        if part == RESULT_FOLDER and run in finished:
            _add_file(archive, runs, path, files)
    made = Manifest(
        format=FORMAT,
        revision=revision,
        created_at=datetime.now(UTC),
        tables=tables,
        files=files,
    )
    body = made.model_dump_json(indent=1).encode()
    _add(archive, MANIFEST, len(body), io.BytesIO(body))
    return made


def _files_of(runs: Path) -> list[Path]:
    """Regular files of runs' folders; no links, and nothing that is being written (.name)."""
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


def _add_file(archive: tarfile.TarFile, runs: Path, path: Path, files: dict[str, File]) -> None:
    name = f"files/{path.relative_to(runs).as_posix()}"
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return  # the run was deleted, or its checkpoint replaced, in this moment
    # An open file stays what it is when another takes its name, as a new checkpoint does.
    with file:
        reader = _Hashing(file)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        _add(archive, name, size, reader)
    files[name] = File(bytes=size, sha256=reader.hexdigest())


def _add_table(archive: tarfile.TarFile, connection: psycopg.Connection[Any], name: str) -> Table:
    columns = [
        str(row[0])
        for row in connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = "
            "current_schema() AND table_name = %s ORDER BY ordinal_position",
            (name,),
        ).fetchall()
    ]
    statement = sql.SQL("COPY {} ({}) TO STDOUT").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with tempfile.TemporaryFile() as spooled, connection.cursor() as cursor:
        with (
            gzip.GzipFile(fileobj=spooled, mode="wb", compresslevel=3) as packed,
            cursor.copy(statement) as copy,
        ):
            for data in copy:
                packed.write(data)
        rows = cursor.rowcount
        size = spooled.tell()
        spooled.seek(0)
        reader = _Hashing(spooled)
        _add(archive, f"database/{name}.copy.gz", size, reader)
    return Table(columns=columns, rows=rows, bytes=size, sha256=reader.hexdigest())


def _add(archive: tarfile.TarFile, name: str, size: int, data: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    archive.addfile(member, data)


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _revision(connection: psycopg.Connection[Any]) -> str:
    if not _exists(connection, "alembic_version"):
        raise SetupError("The database lacks Chesboard's tables; there is nothing to back up.")
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""


def _exists(connection: psycopg.Connection[Any], table: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s)", (table,)).fetchone()
    return row is not None and row[0] is not None


# --- restore ----------------------------------------------------------------------------------


def restore_all(url: str, runs: Path, source: Path, *, force: bool = False) -> Manifest:
    """Bring back what an archive holds, in place of what is there; all of it, or nothing.

    Raises:
        SetupError: the archive is not whole or not ours, there is data and no `force`, or a
            worker is at work.
    """
    unpacked = runs.with_name(f".{runs.name}.{secrets.token_hex(4)}")
    try:
        with tarfile.open(source, mode="r:") as archive:
            made = _checked(archive)
            _unpack_files(archive, made, unpacked)
            with _connected(url) as connection:
                _check_target(connection, force)
                if not force and runs.is_dir() and any(runs.iterdir()):
                    raise SetupError(f"{runs} holds runs. --force replaces them.")
                _fill(connection, archive, made)
                _swap(connection, unpacked, runs)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise SetupError(f"{source} is not a whole backup: {error}.") from error
    except OSError as error:
        raise SetupError(f"{source} cannot be restored: {error.strerror or error}.") from error
    except psycopg.Error as error:
        raise SetupError(
            f"PostgreSQL did not take the backup, and nothing was changed: "
            f"{str(error).splitlines()[0]}"
        ) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    _note(url, "backup.restore", source, made)
    return made


def _checked(archive: tarfile.TarFile) -> Manifest:
    """The manifest, once every member has been seen to be what it says.

    Raises:
        SetupError: something is missing, is more than was told, or is not as it was.
    """
    found: dict[str, tuple[int, str]] = {}
    made: Manifest | None = None
    for member in archive:
        if not member.isreg() or member.name in found:
            raise SetupError(f"The backup holds {member.name!r}, which a backup does not.")
        if member.name == MANIFEST:
            made = _read_manifest(archive, member)
            continue
        reader = _Hashing(_open(archive, member))
        while reader.read(CHUNK):
            pass
        found[member.name] = (member.size, reader.hexdigest())
    if made is None:
        raise SetupError("The backup has no manifest: it was cut off, or is none.")
    expected = {name: (file.bytes, file.sha256) for name, file in made.files.items()}
    for name, table in made.tables.items():
        expected[f"database/{name}.copy.gz"] = (table.bytes, table.sha256)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise SetupError(f"The backup is damaged: {name} is not as the manifest says.")
        if not (_TABLE_MEMBER.fullmatch(name) or _is_file_of_a_run(name)):
            raise SetupError(f"The backup holds {name!r}, which a backup does not.")
    return made


def _is_file_of_a_run(name: str) -> bool:
    return bool(_FILE_MEMBER.fullmatch(name)) and ".." not in name.split("/")


def _read_manifest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Manifest:
    if member.size > MAX_MANIFEST_BYTES:
        raise SetupError("The backup's manifest is too large to be one.")
    try:
        made = Manifest.model_validate_json(_open(archive, member).read())
    except ValidationError as error:
        raise SetupError(f"The backup's manifest cannot be read: {error}") from error
    if made.format != FORMAT:
        raise SetupError(
            f"The backup has format {made.format}, and this version reads {FORMAT} only."
        )
    return made


def _open(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None  # it was seen to be a regular file
    return file


def _unpack_files(archive: tarfile.TarFile, made: Manifest, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in made.files:
        path = folder / name.removeprefix("files/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            shutil.copyfileobj(_open(archive, name), file, CHUNK)


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    """One transaction, which the caller commits, with the lock that migrations take."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            connection.execute(text("SET LOCAL lock_timeout = '10s'"))
            yield connection
    finally:
        engine.dispose()


def _check_target(connection: Connection, force: bool) -> None:
    there = set(inspect(connection).get_table_names())
    if "workers" in there:
        seen = connection.scalar(
            text("SELECT name FROM workers WHERE seen_at > now() - make_interval(secs => :s)"),
            {"s": WORKER_SILENT_SECONDS},
        )
        if seen is not None:
            raise SetupError(f"Worker {seen} is at work. Stop it and the web server first.")
    if force:
        return
    for table in METADATA.sorted_tables:
        name = connection.dialect.identifier_preparer.quote(table.name)
        if table.name in there and connection.scalar(
            text(f"SELECT EXISTS (SELECT FROM {name})")  # noqa: S608 - our own table's name
        ):
            raise SetupError(
                f"The database is not empty: there are {table.name.replace('_', ' ')}. "
                "--force replaces all that is there."
            )


def _fill(connection: Connection, archive: tarfile.TarFile, made: Manifest) -> None:
    """Make the tables anew at the backup's revision, fill them, and migrate to the newest."""
    preparer = connection.dialect.identifier_preparer
    names = [table.name for table in METADATA.sorted_tables] + ["alembic_version"]
    dropped = ", ".join(map(preparer.quote, names))
    connection.execute(text(f"DROP TABLE IF EXISTS {dropped} CASCADE"))
    _migrate(connection, made.revision)
    inspector = inspect(connection)
    driver = cast(psycopg.Connection[Any], connection.connection.driver_connection)
    # Parents before children; a table that later versions dropped has no place in that order.
    order = {table.name: place for place, table in enumerate(METADATA.sorted_tables)}
    for name in sorted(made.tables, key=lambda name: order.get(name, -1)):
        columns = {column["name"] for column in inspector.get_columns(name)}
        if columns != set(made.tables[name].columns):
            raise SetupError(f"The backup's table {name} is not that of schema {made.revision}.")
        _fill_table(driver, archive, name, made.tables[name])
    _migrate(connection, "head")
    driver.execute("DELETE FROM workers")
    driver.execute(
        "UPDATE runs SET status = 'queued', lease_token = NULL, lease_expires_at = NULL, "
        "attempts = greatest(attempts - 1, 0), tries_here = greatest(tries_here - 1, 0), "
        "revision = revision + 1 WHERE status = 'running'"
    )


def _migrate(connection: Connection, revision: str) -> None:
    try:
        # In our transaction: the migrations see that one is open and leave it so.
        command.upgrade(alembic_config(connection), revision)
    except CommandError as error:
        raise SetupError(
            f"The backup's schema is not one that this version knows: {error}"
        ) from error


def _fill_table(
    driver: psycopg.Connection[Any], archive: tarfile.TarFile, name: str, table: Table
) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, table.columns))
    )
    with driver.cursor() as cursor:
        with (
            gzip.GzipFile(fileobj=_open(archive, f"database/{name}.copy.gz")) as packed,
            cursor.copy(statement) as copy,
        ):
            while data := packed.read(CHUNK):
                copy.write(data)
        if cursor.rowcount != table.rows:
            raise SetupError(f"The backup's table {name} has {cursor.rowcount} rows, not as told.")
    if "id" in table.columns:
        # New rows go on after the restored ones.
        driver.execute(
            sql.SQL(
                "SELECT setval(pg_get_serial_sequence({0}, 'id'), coalesce(max(id), 0) + 1, false) "
                "FROM {1}"
            ).format(sql.Literal(name), sql.Identifier(name))
        )


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


def _note(url: str, action: str, file: Path, made: Manifest) -> None:
    """Write into the audit log that it was done, from the command line."""
    details = {"file": file.name, "rows": made.rows, "files": len(made.files)}
    columns = ("action", "actor", "role", "address", "subject", "details")
    values = (action, "command line", "operator", "", "", json.dumps(details))
    with psycopg.connect(_plain(url)) as connection:
        if not _exists(connection, "audit_events"):
            return  # a backup of a schema that is older than the log
        connection.execute(
            sql.SQL("INSERT INTO audit_events ({}) VALUES ({})").format(
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
            ),
            values,
        )


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
