"""What a database error means for the work: gone and to be waited for, full, or a mistake."""

from sqlalchemy.exc import DBAPIError

_AWAY = ("08", "57P")
"""Classes of SQLSTATE: connection exceptions, and a server that is stopped, restarted or starts."""
_TOO_MANY_CONNECTIONS = "53300"
_DISK_FULL = "53100"
_REPEAT = ("25P03", "40001", "40P01")
"""An idle transaction that the server ended (of a process that was suspended), and transactions
that lost to another: their statements were right."""


def is_away(error: DBAPIError) -> bool:
    """Whether the database could not be reached, or the connection to it is gone.

    Not each OperationalError: that is also a statement that can never succeed.
    """
    state = sqlstate(error)
    if state is None:
        # The driver's own error. Without a statement it came from connecting.
        return error.connection_invalidated or error.statement is None
    return state.startswith(_AWAY) or state == _TOO_MANY_CONNECTIONS


def is_disk_full(error: DBAPIError) -> bool:
    return sqlstate(error) == _DISK_FULL


def is_passing(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed later: away, full, or ended for another's sake."""
    return is_away(error) or is_disk_full(error) or sqlstate(error) in _REPEAT


def sqlstate(error: DBAPIError) -> str | None:
    """PostgreSQL's code of the error; None where the driver raised it by itself."""
    return getattr(error.orig, "sqlstate", None)
