"""The one engine and session of a process, and the base that all tables share.

Transactions open and commit at the edge (a request, a task's short steps), never below it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, MetaData, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from app.core.settings import get_settings


class Base(DeclarativeBase):
    # Fixed names, so that generated migrations are the same everywhere.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


@lru_cache
def get_engine() -> Engine:
    return create_engine(
        get_settings().required_database_url(),
        # A restarted server is noticed before a request fails on a dead connection.
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=20,
        connect_args={"connect_timeout": 5, "application_name": "chesboard"},
    )


def limit_idle_transactions(limit: timedelta) -> None:
    """Have the server end any transaction of this process that does nothing for so long.

    For workers: one that is frozen in the middle of a write (a machine put to sleep, a network
    that is gone) would otherwise hold its run's row locked, and the sweeper, which has to take
    that run from it, would wait for it for ever.
    """
    milliseconds = int(limit.total_seconds() * 1000)

    def set_limit(connection: Any, _: object) -> None:
        connection.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
        connection.commit()

    event.listen(get_engine(), "connect", set_limit)
    get_engine().dispose()  # connections that are open already have no limit


@lru_cache
def _session_factory() -> sessionmaker[Session]:
    return sessionmaker(get_engine(), expire_on_commit=False)


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction: commits at the end, rolls back on any exception."""
    with _session_factory().begin() as session:
        yield session


def reset_engine() -> None:
    """Forget the engine, after the settings changed (tests, and `up` after it set the URL)."""
    if get_engine.cache_info().currsize:
        get_engine().dispose()
    get_engine.cache_clear()
    _session_factory.cache_clear()
