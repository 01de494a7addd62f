"""Unicode text that UTF-8 and PostgreSQL can hold: no NUL character and no lone surrogate."""

from typing import NamedTuple

NULL_SYMBOL = "\N{SYMBOL FOR NULL}"


class Unstorable(NamedTuple):
    """The first character that cannot be stored; `position` counts from 0."""

    position: int
    is_null: bool
    """U+0000, else a lone surrogate."""


def find_unstorable(text: str) -> Unstorable | None:
    """The first NUL character, else the first lone surrogate, else None."""
    position = text.find("\0")
    if position >= 0:
        return Unstorable(position, is_null=True)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return Unstorable(error.start, is_null=False)
    return None


def has_stray_bytes(text: str) -> bool:
    """Whether a text has bytes that are not UTF-8, decoded as lone surrogates (surrogateescape)."""
    return any("\udc80" <= character <= "\udcff" for character in text)


def sanitize(text: str) -> str:
    """The text with U+0000 and lone surrogates replaced by characters that can be stored."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", NULL_SYMBOL)
