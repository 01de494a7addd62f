"""The process's SQLAlchemy engine and transactions, and the declarative base of all tables.

Transactions are opened and committed at the edge (a request, a short step of a task), never below.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, get_args

from psycopg.pq import Format
from sqlalchemy import CheckConstraint, Engine, MetaData, create_engine, event, text
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from app.core.settings import get_settings

LOOPBACK = "127.0.0.1"


class Base(DeclarativeBase):
    # Fixed constraint names, so that generated migrations are the same everywhere.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def one_of(column: str, names: Any) -> CheckConstraint:
    """The check that a column holds one of a Literal's names; called as the column is."""
    return CheckConstraint(f"{column} IN ({', '.join(map(repr, get_args(names)))})", name=column)


BINARY = "binary"
"""Execution option: results come in PostgreSQL's binary format, which long byte strings are read
from in a fraction of the time."""


@lru_cache
def get_engine() -> Engine:
    engine = create_engine(
        get_settings().required_database_url(),
        # Detects connections that a server restart has closed, before a request fails on one.
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=20,
        connect_args={"connect_timeout": 5, "application_name": "chesboard"},
    )
    event.listen(engine, "before_cursor_execute", _set_format)
    return engine


def _set_format(*given: Any) -> None:
    _, cursor, _, _, context, _ = given
    if context.execution_options.get(BINARY):
        cursor.format = Format.BINARY


@lru_cache
def get_spare_engine() -> Engine:
    """For what has to go on while every connection of the other is in use: health, audit."""
    return create_engine(
        get_settings().required_database_url(),
        pool_pre_ping=True,
        pool_size=2,
        max_overflow=2,
        pool_timeout=5,
        connect_args={"connect_timeout": 5, "application_name": "chesboard"},
    )


def analyze(session: Session, *tables: type[Base]) -> None:
    """Tell PostgreSQL's planner what is in tables that have got many rows at once, within the
    transaction that brought them.

    Its autovacuum does so a minute later. Until then it takes the rows of a new dataset for a few,
    and plans a join of 100,000 pairs with themselves as one loop within another.
    """
    for table in tables:
        session.execute(text(f"ANALYZE {table.__tablename__}"))


def limit_idle_transactions(limit: timedelta) -> None:
    """Set idle_in_transaction_session_timeout on all connections of this process.

    For workers: one that is suspended in the middle of a write (a machine put to sleep, a lost
    network) would otherwise keep its run's row locked, and block forever the sweeper that has to
    reclaim the run.
    """
    milliseconds = int(limit.total_seconds() * 1000)

    def set_limit(connection: Any, _: object) -> None:
        connection.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
        connection.commit()

    event.listen(get_engine(), "connect", set_limit)
    get_engine().dispose()  # open connections do not have the limit


@lru_cache
def _session_factory() -> sessionmaker[Session]:
    return sessionmaker(get_engine(), expire_on_commit=False)


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction: commits at the end, rolls back on any exception."""
    with _session_factory().begin() as session:
        yield session


def local_address(session: Session) -> str:
    """The address from which this process reaches the database: that of this machine, as others in
    the same network see it, or its loopback where the database is on it."""
    connection = session.connection().connection.driver_connection
    assert connection is not None
    with socket.socket(fileno=os.dup(connection.fileno())) as opened:
        return LOOPBACK if opened.family == socket.AF_UNIX else str(opened.getsockname()[0])


@contextmanager
def spare_transaction() -> Iterator[Session]:
    """A short transaction on a connection that no request holds."""
    with Session(get_spare_engine(), expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def snapshot() -> Iterator[Session]:
    """A transaction whose statements all read the same state of the database (REPEATABLE READ).

    For whatever is read by several statements: a run that is deleted between two of them is still
    whole for the second. Not for writing, which would fail where another changed the row meanwhile.
    """
    with transaction() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        yield session


def reset_engine() -> None:
    """Dispose of the engine, after the settings changed (tests, and `up` after it set the URL)."""
    for engine in (get_engine, get_spare_engine):
        if engine.cache_info().currsize:
            engine().dispose()
        engine.cache_clear()
    _session_factory.cache_clear()
