"""Brings the database's schema to a revision: migrations/versions, run by Alembic.

A new migration is generated from the tables with `make migration MESSAGE="what changes"`; read it
before it is committed.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

import app.store.alarms
import app.store.audit
import app.store.datasets
import app.store.external
import app.store.filtering
import app.store.findings
import app.store.generations
import app.store.judgments
import app.store.preflight
import app.store.probes
import app.store.reviews
import app.store.runs
import app.store.score_summaries
import app.store.scores
import app.store.seats
import app.store.sessions
import app.store.shards.tables
import app.store.studies  # noqa: F401 - the imports register the tables
from app.core.database import Base
from app.core.resources import folder
from app.local.errors import SetupError

METADATA = Base.metadata
LOCK_TIMEOUT = "10s"
# An arbitrary key of a PostgreSQL advisory lock.
ADVISORY_LOCK = 0x43484553


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate the database at `url` up to a revision. Safe to call from several processes at once.

    Raises:
        SetupError: the database does not answer, or its schema is newer than this program.
    """
    try:
        with locked(url) as connection:
            command.upgrade(alembic_config(connection), revision)
    except (DBAPIError, ArgumentError) as error:
        # Without a statement it came from connecting.
        is_setup = isinstance(error, OperationalError) or not getattr(error, "statement", None)
        if not is_setup:
            raise
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise SetupError(f"The database could not be migrated: {reason}") from error
    except CommandError as error:
        raise SetupError(
            f"The database has a schema that this version does not know: {error}"
        ) from error


def downgrade(url: str, revision: str) -> None:
    """Migrate the database down to a revision; "base" drops every table."""
    with locked(url) as connection:
        command.downgrade(alembic_config(connection), revision)


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for the migrations folder, on an open connection."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(folder("migrations")))
    config.set_main_option("file_template", "%%(year)d_%%(month).2d_%%(day).2d_%%(slug)s")
    return config


@contextmanager
def locked(url: str) -> Iterator[Connection]:
    """A connection that holds the migration lock; statements give up after LOCK_TIMEOUT."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
            connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            connection.commit()
            yield connection
            connection.commit()
    finally:
        engine.dispose()  # closing the connection releases the advisory lock


def make_revision(url: str, message: str) -> None:
    """Write a migration file for the difference between the tables and the database at `url`."""
    with locked(url) as connection:
        command.revision(
            alembic_config(connection),
            message,
            autogenerate=True,
            rev_id=f"{datetime.now(UTC):%Y%m%d%H%M}",
        )


def _make_revision_on_scratch_server(message: str) -> None:
    """As make_revision, on a temporary embedded server."""
    import tempfile
    from pathlib import Path

    from app.local.postgres import start_postgres
    from app.local.processes import Children

    children = Children()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            url = start_postgres(Path(scratch) / "postgres", children, durable=False)
            upgrade(url)
            make_revision(url, message)
        finally:
            children.stop()


if __name__ == "__main__":
    _make_revision_on_scratch_server(" ".join(sys.argv[1:]) or "change")
