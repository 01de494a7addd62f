"""Records backups and restores in the database's audit log."""

import json
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from app.local.backup.archive import Manifest


def record(url: str, action: str, file: Path, manifest: Manifest) -> None:
    """Insert an audit event, as the command line; none in a schema older than the log."""
    details = {"file": file.name, "rows": manifest.rows, "files": len(manifest.files)}
    columns = ("action", "actor", "role", "address", "subject", "details")
    values = (action, "command line", "operator", "", "", json.dumps(details))
    with psycopg.connect(plain_url(url)) as connection:
        if not table_exists(connection, "audit_events"):
            return
        connection.execute(
            sql.SQL("INSERT INTO audit_events ({}) VALUES ({})").format(
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
            ),
            values,
        )


def table_exists(connection: psycopg.Connection[Any], table: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s)", (table,)).fetchone()
    return row is not None and row[0] is not None


def plain_url(url: str) -> str:
    """The URL in libpq's form, without SQLAlchemy's driver name."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
