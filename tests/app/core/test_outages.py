"""What a database error means, with errors that a real PostgreSQL raises."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, literal, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core.outages import is_away, is_disk_full, is_passing
from app.local.embedded import Services


def raised(action: Callable[[], Any]) -> DBAPIError:
    with pytest.raises(DBAPIError) as caught:
        action()
    return caught.value


def test_a_server_that_cannot_be_reached_is_away() -> None:
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    error = raised(lambda: engine.connect())
    assert is_away(error)
    assert is_passing(error)


def test_a_connection_that_is_ended_meanwhile_is_away(session: Session) -> None:
    session.execute(text("SELECT 1"))
    ended = text("SELECT pg_terminate_backend(pg_backend_pid())")
    assert is_away(raised(lambda: session.execute(ended)))


def test_a_statement_that_can_never_succeed_is_not_away(session: Session) -> None:
    too_many = select(literal(1).in_(range(70_000)))
    error = raised(lambda: session.execute(too_many))
    # The driver raises what it raises for a lost connection, too, and PostgreSQL was not asked.
    assert isinstance(error.orig, psycopg.OperationalError)
    assert not is_away(error)
    assert not is_passing(error)


def test_a_statement_that_takes_too_long_is_not_away(session: Session) -> None:
    session.execute(text("SET LOCAL statement_timeout = 10"))
    assert not is_passing(raised(lambda: session.execute(text("SELECT pg_sleep(1)"))))


def test_an_idle_transaction_that_was_ended_may_be_repeated(services: Services) -> None:
    engine = create_engine(services.database_url)
    with engine.connect() as connection:
        connection.execute(text("SET idle_in_transaction_session_timeout = 10"))
        connection.execute(text("SELECT pg_sleep(0)"))
        with psycopg.connect(services.database_url.replace("+psycopg", "")) as other:
            other.execute("SELECT pg_sleep(0.2)")
        error = raised(lambda: connection.execute(text("SELECT 1")))
    assert is_passing(error)


def test_a_full_disk_is_called_a_full_disk() -> None:
    error = DBAPIError("INSERT", {}, psycopg.errors.DiskFull("could not extend file"))
    assert is_disk_full(error)
    assert is_passing(error)
    assert not is_away(error)
