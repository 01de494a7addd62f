"""Dumps and loads the tables' rows with pg_dump and pg_restore.

Only rows pass through the dump. The schema comes from the migrations, so that a backup of an older
version is brought up to date; and rows are copied on the caller's connection, so that a restore is
one transaction with those migrations. pg_restore therefore writes the dump out as a script, and of
that script only the data of its COPY statements is used: an archive cannot run SQL.
"""

import gzip
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.local.backup.archive import CHUNK, Manifest, Table, copy_member, open_member
from app.local.errors import SetupError
from app.local.postgres import postgres_binaries

ROWS_A_WRITE = 1000
_COPY = re.compile(rb'COPY (?:.+\.)?"?(?P<table>\w+)"? \((?P<columns>.+)\) FROM stdin;\n')
_END_OF_COPY = b"\\.\n"


# --- dump -------------------------------------------------------------------------------------


def describe(connection: psycopg.Connection[Any], name: str) -> Table:
    """A table's columns and its number of rows, in the connection's snapshot."""
    columns = [
        str(row[0])
        for row in connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = "
            "current_schema() AND table_name = %s ORDER BY ordinal_position",
            (name,),
        ).fetchall()
    ]
    counted = connection.execute(
        sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))
    ).fetchone()
    assert counted is not None
    return Table(columns=columns, rows=counted[0])


def dump(
    connection: psycopg.Connection[Any], url: str, tables: Sequence[str], target: IO[bytes]
) -> int:
    """Write the rows of `tables`, as of the connection's snapshot, to `target`.

    The connection's transaction must be REPEATABLE READ. Returns pg_dump's major version.

    Raises:
        SetupError: there is no pg_dump for this server, or it fails.
    """
    program, version = _pg_dump_for(connection)
    row = connection.execute("SELECT pg_export_snapshot(), current_schema()").fetchone()
    assert row is not None
    snapshot, schema = row
    parameters = conninfo_to_dict(url)
    password = parameters.pop("password", None)  # other users can read a command line
    done = subprocess.run(  # noqa: S603 - every argument is ours
        [
            *(str(program), "--format=custom", "--compress=3"),
            *("--data-only", "--no-password", f"--snapshot={snapshot}"),
            *(f'--table="{schema}"."{table}"' for table in tables),
            f"--dbname={make_conninfo('', **parameters)}",
        ],
        env={**os.environ, **({} if password is None else {"PGPASSWORD": str(password)})},
        stdout=target,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        raise SetupError(f"The database cannot be dumped: {_last_line(done.stderr)}")
    return version


def _pg_dump_for(connection: psycopg.Connection[Any]) -> tuple[Path, int]:
    """A pg_dump that can read the connection's server, and its major version.

    The embedded PostgreSQL's own has no TLS and refuses newer servers: for these, the one on PATH.
    """
    server = connection.info.server_version // 10_000
    encrypted = connection.pgconn.ssl_in_use
    own = postgres_binaries() / "pg_dump"
    if not encrypted and (version := _major_version(own)) >= server:
        return own, version
    found = shutil.which("pg_dump")
    if found and (version := _major_version(Path(found))) >= server:
        return Path(found), version
    reason = (
        "is reached over TLS, which the pg_dump that comes with Chesboard lacks"
        if encrypted
        else f"is newer than the pg_dump that comes with Chesboard ({_major_version(own)})"
    )
    raise SetupError(
        f"The server runs PostgreSQL {server} and {reason}. "
        f"Put a pg_dump of version {server} or later on the PATH."
    )


def _major_version(program: Path) -> int:
    # "pg_dump (PostgreSQL) 18.4 (Debian 18.4-1)"; a beta is "19beta1".
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
        [str(program), "--version"], capture_output=True, text=True, check=True
    )
    found = re.search(r"\) (\d+)", done.stdout)
    return int(found[1]) if found else 0


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"


# --- load -------------------------------------------------------------------------------------


def load_dump(connection: psycopg.Connection[Any], dumped: Path, manifest: Manifest) -> None:
    """Copy the rows of a dump into empty tables of the schema that it was made from.

    Raises:
        SetupError: pg_restore fails, or the rows are not those that the manifest lists.
    """
    loaded = set()
    with _script(dumped, manifest.pg_dump) as lines:
        for line in lines:
            if statement := _COPY.fullmatch(line):
                name = statement["table"].decode()
                if name not in manifest.tables or name in loaded:
                    raise SetupError(f"The backup's dump holds {name}, unlike its manifest.")
                columns = [part.strip('"') for part in statement["columns"].decode().split(", ")]
                rows = takewhile(lambda row: row != _END_OF_COPY, lines)
                _copy(connection, name, columns, rows, manifest.tables[name].rows)
                loaded.add(name)
    if missing := manifest.tables.keys() - loaded:
        raise SetupError(f"The backup's dump lacks {', '.join(sorted(missing))}.")


def load_copied(
    connection: psycopg.Connection[Any], archive: tarfile.TarFile, name: str, manifest: Manifest
) -> None:
    """Copy the rows of one table of an archive of format 1."""
    table = manifest.tables[name]
    with gzip.GzipFile(fileobj=open_member(archive, copy_member(name))) as packed:
        chunks = iter(lambda: packed.read(CHUNK), b"")
        _copy(connection, name, table.columns, chunks, table.rows)


def _copy(
    connection: psycopg.Connection[Any],
    name: str,
    columns: Sequence[str],
    data: Iterable[bytes],
    expected: int,
) -> None:
    """COPY FROM STDIN; the table's id sequence then continues after the highest id."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    chunks = iter(data)
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            while chunk := b"".join(islice(chunks, ROWS_A_WRITE)):
                copy.write(chunk)
        if cursor.rowcount != expected:
            raise SetupError(
                f"The backup's table {name} has {cursor.rowcount} rows; "
                f"the manifest says {expected}."
            )
    if "id" in columns:
        connection.execute(
            sql.SQL(
                "SELECT setval(pg_get_serial_sequence({0}, 'id'), coalesce(max(id), 0) + 1, false) "
                "FROM {1}"
            ).format(sql.Literal(name), sql.Identifier(name))
        )


@contextmanager
def _script(dumped: Path, version: int) -> Iterator[Iterator[bytes]]:
    """The lines of a dump's SQL script, streamed from pg_restore.

    Raises:
        SetupError: pg_restore fails.
    """
    program = postgres_binaries() / "pg_restore"
    if version > _major_version(program) and (found := shutil.which("pg_restore")):
        program = Path(found)  # the dump came from a newer pg_dump
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - every argument is ours
            [str(program), "--data-only", "--file=-", str(dumped)],
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdout is not None
        with process:
            try:
                yield iter(process.stdout)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            errors.seek(0)
            raise SetupError(f"The backup's dump cannot be read: {_last_line(errors.read())}")
