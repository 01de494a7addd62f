"""Reads a file that begins with a JSON object: a table in it, or objects one after another.

What fits into memory is read whole and judged by all that it holds. Of a larger one, the list of
rows that it holds is streamed.
"""

import json
from collections.abc import Iterator
from typing import Any

from chesboard.formats.errors import FormatError
from chesboard.formats.file_warnings import FileWarnings
from chesboard.formats.json_rows import as_row, read_items, read_lines
from chesboard.formats.json_tables import Row, Table, find_tables, is_columnar, is_row, unwrap
from chesboard.formats.json_text import MAX_ROW_BYTES, JsonText
from chesboard.formats.members import Member, choose_member
from chesboard.formats.repeated_keys import RepeatedKeys
from chesboard.formats.rows import SourceRow
from chesboard.formats.sniffing import what_object_it_is
from chesboard.formats.unpacking import Buffered, Joined, buffered, read_ahead
from chesboard.formats.wording import counted

MAX_HELD_BYTES = 32 << 20
"""Largest JSON object that is held in memory, as a table by columns must be."""

NO_ROWS = (
    "The file is one JSON object that holds no list of rows. Expected are an array of objects, "
    '{"data": [...]}, or one object a line.'
)
_WRAPPERS = (
    *("data", "rows", "items", "examples", "pairs", "records", "instances"),
    *("train", "test", "validation", "dev", "eval"),
)


def read(
    file: Buffered, member: str | None, warnings: FileWarnings, *, is_line: bool
) -> Iterator[Row]:
    """The rows of the table in a JSON object.

    member: the key that leads to it, where there are several. is_line: whether the file is JSONL if
    its first line is no table.

    Raises:
        FormatError: not JSON; no table in it, or several; or by columns and too large.
    """
    keys = RepeatedKeys()
    warnings.watch(keys.sentences)
    start = read_ahead(file, MAX_HELD_BYTES + 1)
    line, _, behind = start.partition(b"\n")
    first = _object(line, keys)
    rest = buffered(Joined(start, file))
    whole = first if first is not None else _object(start, keys)
    are_several = first is None and _is_first_of_several(start)
    are_lines = bool(behind.strip()) if first is not None else is_line
    if whole is not None and not are_several and not are_lines:
        keys.see_row(1)
        yield from _rows_of(whole, member, warnings, is_line=first is not None)
        return
    keys.forget()
    if are_several:
        rows = _one_after_another(JsonText(rest, keys))
    elif are_lines:
        rows = read_lines(rest, keys)
    else:
        rows = _stream(JsonText(rest, keys), member, is_large=len(start) > MAX_HELD_BYTES)
    yield from unwrap(rows)


def _object(data: bytes, keys: RepeatedKeys) -> dict[str, Any] | None:
    """The object that a text is; None where it is none, or more than may be held."""
    if len(data) > MAX_HELD_BYTES:
        return None
    try:
        value = keys.decoder.decode(data.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _rows_of(
    value: dict[str, Any], member: str | None, warnings: FileWarnings, *, is_line: bool
) -> Iterator[Row]:
    if (message := what_object_it_is(value)) is not None:
        raise FormatError(message)
    tables = [] if _may_be_row(value, is_line=is_line) else find_tables(value)
    if tables:
        yield from _chosen(tables, member, warnings).rows()
    elif any(value.get(name) == [] for name in _WRAPPERS):
        return
    elif is_line or is_row(value):
        yield SourceRow(1, value)
    else:
        raise FormatError(NO_ROWS)


def _may_be_row(value: dict[str, Any], *, is_line: bool) -> bool:
    """Whether an object is a row: of a known form, or on a line and with nothing like a table."""
    if is_row(value):
        return True
    places = (value, *(inner for inner in value.values() if isinstance(inner, dict)))
    has_wrapper = any(name in place for place in places for name in _WRAPPERS)
    return is_line and not has_wrapper and not any(map(is_columnar, places))


def _chosen(tables: list[Table], member: str | None, warnings: FileWarnings) -> Table:
    known = [table for table in tables if table.has_known_columns()]
    if member is None and len(known) == 1 < len(tables):
        others = ", ".join(f"{t.name} ({t.size})" for t in tables if t is not known[0])
        warnings.add(f"Of the file, {known[0].name} is read; other lists in it are not: {others}.")
        chosen = known[0]
    elif member is None and len(tables) == 1:
        chosen = tables[0]
    else:
        chosen = choose_member(tables, member, "The JSON object")
    for sentence in chosen.warnings:
        warnings.add(sentence)
    return chosen


def _is_first_of_several(start: bytes) -> bool:
    """Whether the file begins with an object and another one."""
    text = start[:MAX_ROW_BYTES].decode("utf-8", "surrogateescape")
    try:
        _, end = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return False
    return text.lstrip()[end:].lstrip(", \t\r\n").startswith("{")


def _one_after_another(text: JsonText) -> Iterator[Row]:
    """Objects without an array around them, over several lines or several on a line."""
    row = 0
    while text.next_sign():
        row += 1
        value = text.value()
        text.keys.see_row(row)
        yield as_row(row, value)
        if text.next_sign() == ",":
            text.take(",")


def _stream(text: JsonText, member: str | None, *, is_large: bool) -> Iterator[Row]:
    """The items of a list of objects in an object, whose other values are skipped.

    Raises:
        FormatError: it holds several such lists, and no `member` says which; or none.
    """
    seen: list[Member] = []
    has_columns = False
    for name in _keys_of_lists(text):
        rows = 0
        is_of_objects = False
        is_wanted = member == name or (member is None and not seen)
        for rows, row in enumerate(read_items(text), 1):
            is_of_objects = is_of_objects or (rows == 1 and isinstance(row, SourceRow))
            if is_of_objects and is_wanted:
                yield row
        if is_of_objects:
            seen.append(Member(name, counted(rows, "row")))
        has_columns = has_columns or (rows > 0 and not is_of_objects)
    if not seen:
        raise _by_columns() if is_large and has_columns else FormatError(NO_ROWS)
    if member is not None or len(seen) > 1:
        choose_member(seen, member, "The JSON object")


def _keys_of_lists(text: JsonText) -> Iterator[str]:
    """The keys of an object whose values are lists; the caller reads each list."""
    text.take("{")
    if text.next_sign() == "}":
        return
    while True:
        name = text.value()
        text.take(":")
        if text.next_sign() == "[":
            yield str(name)
        else:
            text.value()
            text.keys.forget()
        if text.take(",", "}") == "}":
            return
        if text.next_sign() == "}":
            raise text.error("a comma stands before the closing bracket")


def _by_columns() -> FormatError:
    return FormatError(
        f"The file holds its table by columns, which has to be read as a whole; that is done up to "
        f"{MAX_HELD_BYTES >> 20} MiB. Save it as JSONL or Parquet."
    )
