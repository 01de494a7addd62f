"""Streaming readers of JSONL (an object a line) and of one JSON array of objects."""

import json
from collections.abc import Iterator

from chesboard.formats.json_text import MAX_COLUMNS, MAX_ROW_BYTES, JsonText, explain
from chesboard.formats.repeated_keys import RepeatedKeys
from chesboard.formats.rows import SNIPPET_CHARACTERS, RowError, SourceRow
from chesboard.formats.unpacking import Buffered

_JSON = json.JSONDecoder()

Rows = Iterator[SourceRow | RowError]


def read_lines(file: Buffered, keys: RepeatedKeys | None = None) -> Rows:
    """keys: counts the keys that are named twice."""
    keys = keys or RepeatedKeys()
    for row, line in lines_of(file):
        if len(line) > MAX_ROW_BYTES:
            yield RowError(row, f"the line is longer than {MAX_ROW_BYTES:,} bytes")
        elif line.strip():
            yield _parse_line(row, line, keys)


def lines_of(file: Buffered) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line). An overlong line is truncated."""
    row = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        row += 1
        if line == b"\n":
            # Millions of empty lines are skipped a buffer at a time.
            row += _skip_empty(file)
            continue
        yield row, line
        while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_ROW_BYTES + 1)


def _skip_empty(file: Buffered) -> int:
    """Skip the empty lines that come next; returns their number."""
    skipped = 0
    while (ahead := file.peek(1)).startswith(b"\n"):
        empty = len(ahead) - len(ahead.lstrip(b"\n"))
        file.read(empty)
        skipped += empty
    return skipped


def _parse_line(row: int, line: bytes, keys: RepeatedKeys) -> SourceRow | RowError:
    try:
        value = parse(line.decode("utf-8"), keys.decoder)
    except UnicodeDecodeError as error:
        message = f"not UTF-8: byte {error.start + 1} of the line; save the file as UTF-8"
        return RowError(row, message, snippet=_cut(line))
    except ValueError as error:
        return RowError(row, f"not JSON: {error}", snippet=_cut(line))
    finally:
        keys.see_row(row)
    return as_row(row, value)


def as_row(row: int, value: object) -> SourceRow | RowError:
    """The row that a JSON value is, or why it is none."""
    if isinstance(value, dict):
        if len(value) > MAX_COLUMNS:
            return RowError(row, f"{len(value):,} keys; a row has {MAX_COLUMNS:,} at most")
        return SourceRow(row, value)
    message = f"not a JSON object but {noun(value)}"
    if isinstance(value, list):
        message += " without column names (pandas: write it with orient='records')"
    snippet = json.dumps(value, ensure_ascii=False)[:SNIPPET_CHARACTERS]
    return RowError(row, message, snippet=snippet)


def _cut(line: bytes) -> str:
    return line[: SNIPPET_CHARACTERS * 4].decode("utf-8", "replace").strip()[:SNIPPET_CHARACTERS]


def parse(text: str, decoder: json.JSONDecoder = _JSON) -> object:
    """Raises:
    ValueError: not JSON, or nested too deeply.
    """
    try:
        value: object = decoder.decode(text)
        return value
    except json.JSONDecodeError as error:
        message = explain(text, error.pos, error.msg)
        raise ValueError(f"{message} at character {error.pos + 1}") from error
    except RecursionError:
        raise ValueError("nested too deeply") from None


def noun(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def read_array(file: Buffered, keys: RepeatedKeys) -> Rows:
    """The items of an array, parsed one by one in constant memory.

    Raises:
        FormatError: invalid JSON; the items before it are yielded first.
    """
    yield from read_items(JsonText(file, keys))


def read_items(text: JsonText) -> Rows:
    """The items of the array that comes next."""
    text.take("[")
    if text.next_sign() == "]":
        text.take("]")
        return
    row = 0
    while True:
        row += 1
        value = text.value()
        text.keys.see_row(row)
        yield as_row(row, value)
        if text.take(",", "]") == "]":
            return
        if text.next_sign() == "]":
            raise text.error("a comma stands before the closing bracket")
