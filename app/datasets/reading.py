"""From an uploaded file's bytes to its rows, one at a time and without holding the file.

JSONL, a JSON array and CSV are read, each also gzipped. Which it is follows from the file's
name and its first bytes. A row that cannot be read becomes a RowError and reading goes on; only
a file that is no such file at all raises.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import PurePath
from typing import Literal, Protocol

from app.datasets.rows import SNIPPET_CHARACTERS, RowError, SourceRow
from app.errors import InvalidInputError, TooLargeError

Kind = Literal["jsonl", "json", "csv"]

# A row is held in memory as a whole, and a response of megabytes is a file that lacks newlines.
MAX_ROW_BYTES = 16 << 20
# An array has to be parsed in one piece.
MAX_ARRAY_BYTES = 64 << 20

BOM = b"\xef\xbb\xbf"
UNREADABLE = {
    b"PAR1": "Parquet is not read. Save the table as JSONL (one JSON object a line).",
    b"PK\x03\x04": "Archives are not opened. Upload the file that is inside.",
    b"\xff\xfe": "The file is UTF-16. Save it as UTF-8.",
    b"\xfe\xff": "The file is UTF-16. Save it as UTF-8.",
}

csv.field_size_limit(MAX_ROW_BYTES)


class Source(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


def read_rows(file: Source, filename: str, max_bytes: int) -> Iterator[SourceRow | RowError]:
    """The rows of an upload; `file` stands at its start, `max_bytes` bounds what is unpacked.

    Raises:
        InvalidInputError: not a file of one of the kinds above.
        TooLargeError: a gzipped file that unpacks to more than `max_bytes`.
    """
    name = filename.lower()
    buffered = io.BufferedReader(_Raw(file))
    if buffered.peek(2).startswith(b"\x1f\x8b"):
        name = name.removesuffix(".gz")
        buffered = io.BufferedReader(_Raw(gzip.GzipFile(fileobj=buffered), max_bytes))
    try:
        yield from _read_plain(buffered, name)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidInputError(f"The gzipped file is damaged or incomplete: {error}") from error


class _Raw(io.RawIOBase):
    """Lets a reader be buffered, and stops at a limit. Closing it leaves the source open."""

    def __init__(self, source: Source, limit: int | None = None) -> None:
        self._source = source
        self._limit = limit
        self._seen = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        self._seen += len(data)
        if self._limit is not None and self._seen > self._limit:
            raise TooLargeError(f"The file unpacks to more than {self._limit:,} bytes.")
        return len(data)


def _read_plain(file: "io.BufferedReader[_Raw]", name: str) -> Iterator[SourceRow | RowError]:
    start = file.peek(64)[:64]
    for magic, message in UNREADABLE.items():
        if start.startswith(magic):
            raise InvalidInputError(message)
    if start.startswith(BOM):
        file.read(len(BOM))
        start = start[len(BOM) :]
    readers = {"jsonl": _read_jsonl, "json": _read_array, "csv": _read_csv}
    yield from readers[_kind(name, start.lstrip()[:1])](file)


def _kind(name: str, first: bytes) -> Kind:
    match PurePath(name).suffix:
        case ".csv":
            return "csv"
        case ".jsonl" | ".ndjson":
            return "jsonl"
    return "json" if first == b"[" else "jsonl"


def _read_jsonl(file: "io.BufferedReader[_Raw]") -> Iterator[SourceRow | RowError]:
    for row, line in _lines(file):
        if len(line) > MAX_ROW_BYTES:
            yield RowError(row, f"the line is longer than {MAX_ROW_BYTES:,} bytes")
        elif line.strip():
            yield _parse_line(row, line)


def _lines(file: "io.BufferedReader[_Raw]") -> Iterator[tuple[int, bytes]]:
    """(number from 1, line). Of a line that is too long, only its start is kept."""
    row = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        row += 1
        yield row, line
        while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_ROW_BYTES + 1)


def _parse_line(row: int, line: bytes) -> SourceRow | RowError:
    snippet = line[: SNIPPET_CHARACTERS * 4].decode("utf-8", "replace").strip()[:SNIPPET_CHARACTERS]
    try:
        value = _parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return RowError(row, f"not UTF-8: byte {error.start + 1} of the line", snippet=snippet)
    except ValueError as error:
        return RowError(row, f"not JSON: {error}", snippet=snippet)
    if not isinstance(value, dict):
        return RowError(row, f"not a JSON object but {_noun(value)}", snippet=snippet)
    return SourceRow(row, value)


def _parse_json(text: str) -> object:
    """Raises ValueError for whatever is wrong, too deep nesting included."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from error
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _noun(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _read_array(file: "io.BufferedReader[_Raw]") -> Iterator[SourceRow | RowError]:
    data = file.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise TooLargeError(
            f"A JSON array is read up to {MAX_ARRAY_BYTES:,} bytes. "
            "Save it as JSONL (one JSON object a line), which has no such limit."
        )
    try:
        items = _parse_json(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"The file is not UTF-8: byte {error.start + 1}.") from error
    except ValueError as error:
        raise InvalidInputError(f"The file is not JSON: {error}.") from error
    assert isinstance(items, list)  # it begins with a bracket
    for row, item in enumerate(items, start=1):
        if isinstance(item, dict):
            yield SourceRow(row, item)
        else:
            yield RowError(row, f"not a JSON object but {_noun(item)}")


def _read_csv(file: "io.BufferedReader[_Raw]") -> Iterator[SourceRow | RowError]:
    # Broken UTF-8 turns into lone surrogates here, which no row may hold.
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    lines = csv.reader(text)
    try:
        header = [name.strip() for name in next(lines, [])]
    except csv.Error as error:
        raise InvalidInputError(f"The first line is no CSV header: {error}.") from error
    if len(set(header)) < len(header):
        raise InvalidInputError("The CSV header names a column twice.")
    while True:
        row = lines.line_num + 1
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield RowError(row, f"not CSV: {error}")
            continue
        if len(cells) == len(header):
            yield SourceRow(row, dict(zip(header, cells, strict=True)))
        elif cells:
            yield RowError(row, f"{len(cells)} cells, but the header names {len(header)} columns")
