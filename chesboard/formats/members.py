"""Members of a file that holds several tables: splits of an archive or of one JSON object."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from chesboard.formats.errors import ErrorItem, FormatError

MAX_NAMED = 200


@dataclass(frozen=True, slots=True)
class Member:
    """`size`: in words, such as "234 bytes" or "3 rows"."""

    name: str
    size: str


M = TypeVar("M", bound=Member)


def choose_member(members: Sequence[M], wanted: str | None, container: str) -> M:
    """The member that is asked for, or the only one.

    container: what holds them, such as "The archive".

    Raises:
        FormatError: there are several and none is asked for, or none has that name; its items name
            each: `snippet` is the name, `message` the size.
    """
    if wanted is not None:
        for member in members:
            if member.name == wanted:
                return member
        raise _several(members, f"{container} holds no {wanted!r} that can be read.")
    if len(members) == 1:
        return members[0]
    raise _several(members, f"{container} holds several tables, and one is read at a time.")


def _several(members: Sequence[Member], reason: str) -> FormatError:
    names = ", ".join(member.name for member in members[:10])
    more = f" and {len(members) - 10:,} more" if len(members) > 10 else ""
    items: list[ErrorItem] = [
        {"field": "member", "message": member.size, "snippet": member.name}
        for member in members[:MAX_NAMED]
    ]
    return FormatError(f"{reason} Say which with `member`: {names}{more}.", items)
