"""The errors of reading and writing files of preference data, with the rows and fields at fault."""

from collections.abc import Sequence
from typing import TypedDict


class ErrorItem(TypedDict, total=False):
    """One of several things that are wrong. `row` counts from 1, `field` is a dotted path."""

    row: int
    field: str
    message: str
    snippet: str


class FormatError(ValueError):
    """A file, or what was said about its columns, that cannot be used; the message is for users.

    items: the rows or fields at fault, where they can be named.
    """

    def __init__(self, message: str, items: Sequence[ErrorItem] = ()) -> None:
        super().__init__(message)
        self.items = list(items)


class FileTooLargeError(FormatError):
    """A file, or what it decompresses to, exceeds the limit in bytes."""
