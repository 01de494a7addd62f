"""Connections to the database."""

import socket
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy.orm import Session

from app.core.database import local_address, transaction


def session_over(connection: socket.socket) -> Session:
    pooled = SimpleNamespace(driver_connection=connection)
    opened: Any = SimpleNamespace(connection=lambda: SimpleNamespace(connection=pooled))
    return cast(Session, opened)


def test_this_machine_s_address_is_that_of_its_end_of_the_connection() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as database,
        socket.create_connection(database.getsockname(), source_address=("127.0.0.5", 0)) as ours,
    ):
        assert local_address(session_over(ours)) == "127.0.0.5"
        ours.getpeername()  # still open


def test_where_the_database_is_on_this_machine_it_is_the_loopback(database: Any) -> None:
    with transaction() as session:
        assert local_address(session) == "127.0.0.1"
