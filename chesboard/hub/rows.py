"""The rows of a downloaded split, and of one that is named as `hub:org/name`."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePath
from typing import IO, Any

from chesboard.formats.errors import FormatError
from chesboard.formats.reading import Rows, open_rows
from chesboard.formats.rows import SourceRow, shortened
from chesboard.formats.unpacking import Source
from chesboard.hub.download import Downloaded, OnBytes, downloaded
from chesboard.hub.errors import HubRequestError
from chesboard.hub.repository import choose, look_up

_NAMED = re.compile(
    r"hub:(?P<name>[^/@]+/[^/@]+)(?:/(?:(?P<config>[^@]+)/)?(?P<split>[^/@]+))?(?:@(?P<revision>.+))?"
)


def rows_of(
    found: Downloaded,
    max_bytes: int,
    warnings: list[str],
    wrapped: Callable[[IO[bytes]], Source] = lambda file: file,
) -> Rows:
    """The rows of all files. Their numbers count on from file to file.

    max_bytes: limit on what the files unpack to together. warnings: gets those of each file.
    wrapped: wraps each file.

    Raises, while being iterated:
        FormatError: a file cannot be read; the message names it.
    """
    before = 0
    for listed, file in found.each():
        last = before
        try:
            opened = open_rows(wrapped(file), PurePath(listed.path).name, max_bytes)
            for row in opened.rows:
                last = before + row.row
                if isinstance(row, SourceRow):
                    max_bytes -= _size(row.columns)
                yield replace(row, row=last)
            warnings += [f"{shortened(listed.path)}: {warning}" for warning in opened.warnings]
        except FormatError as error:
            raise type(error)(f"{shortened(listed.path)}: {error}", error.items) from error
        before = last


def _size(value: Any) -> int:
    """Characters of a cell: what is left of the limit is for the files that follow."""
    match value:
        case str():
            return len(value)
        case dict():
            return sum(len(name) + _size(item) for name, item in value.items())
        case list():
            return sum(_size(item) for item in value)
    return 1


@contextmanager
def rows_named(named: str, max_bytes: int, on_bytes: OnBytes) -> Iterator[tuple[Rows, list[str]]]:
    """(rows, warnings on the files, complete after the rows) of `hub:org/name`,
    `hub:org/name/split` or `hub:org/name/config/split`, each with `@revision` behind it.

    Raises:
        HubError: it cannot be had, or several splits are there and none is named.
    """
    found = _NAMED.fullmatch(named)
    if found is None:
        raise HubRequestError(
            f"“{named}” names no dataset of the hub. Write hub:org/name, or "
            "hub:org/name/config/split@revision."
        )
    repository = look_up(found["name"], found["revision"])
    split = choose(repository, found["config"], found["split"])
    with downloaded(repository, split, on_bytes) as files:
        warnings: list[str] = []
        yield rows_of(files, max_bytes, warnings), warnings
