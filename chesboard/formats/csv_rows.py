"""Reads CSV, with conventions for values that are not text.

- A column named `x:json` is the column `x` with JSON in its cells; an empty cell is missing.
- A cell of any column may be a list of chat messages, as JSON, as a Python literal, or as NumPy
  prints one.
- A first line `sep=;` names the delimiter, as Excel writes it.
- `chesboard:quoted` lists the columns of a row whose text was given a leading apostrophe as a guard
  against formulas; the apostrophe is removed.

The server's export (app/datasets/export_files.py) writes the first and the third.
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from chesboard.formats.columns import recognize
from chesboard.formats.csv_lines import FORMULA_SIGNS
from chesboard.formats.errors import FormatError
from chesboard.formats.json_rows import MAX_ROW_BYTES, parse
from chesboard.formats.message_text import parse_messages
from chesboard.formats.rows import SNIPPET_CHARACTERS, RowError, SourceRow
from chesboard.formats.unpacking import Buffered

JSON_SUFFIX = ":json"
QUOTED = "chesboard:quoted"
QUOTED_SUFFIX = ":quoted"
DELIMITERS = ",;\t"

csv.field_size_limit(MAX_ROW_BYTES)

_SEPARATOR = re.compile(r'"?sep=([,;\t|])"?\s*$', re.I)


def read(file: Buffered) -> Iterator[SourceRow | RowError]:
    # Invalid UTF-8 becomes lone surrogates, which are rejected row by row.
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    lines = _Lines(text)
    try:
        first = next(lines, "")
        while first and not first.strip():
            first = next(lines, "")
        if named := _SEPARATOR.match(first):
            delimiter = named[1]
        else:
            delimiter = _delimiter(first)
            lines.put_back(first)
        rows = csv.reader(lines, delimiter=delimiter)
        header = _header(next(rows, []))
    except csv.Error as error:
        raise FormatError(f"The first line is no CSV header: {error}.") from error
    if len(set(header)) < len(header):
        raise FormatError("The CSV header names a column twice.")
    while True:
        row = lines.number + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield RowError(row, f"not CSV: {error}")
            continue
        if len(cells) == len(header):
            yield _row(row, header, cells)
        elif cells:
            message = f"{len(cells)} cells, but the header names {len(header)} columns"
            yield RowError(row, message, snippet=delimiter.join(cells[:8])[:SNIPPET_CHARACTERS])


class _Lines:
    """Iterates over lines; an overlong one raises csv.Error and is skipped."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._put_back: str | None = None
        self.number = 0

    def put_back(self, line: str) -> None:
        self._put_back = line
        self.number -= 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line, self._put_back = self._put_back, None
        if line is None:
            line = self._text.readline(MAX_ROW_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) <= MAX_ROW_BYTES:
            return line
        while len(line) > MAX_ROW_BYTES and not line.endswith("\n"):
            line = self._text.readline(MAX_ROW_BYTES + 1)
        raise csv.Error(f"the line is longer than {MAX_ROW_BYTES:,} characters")


def _header(names: list[str]) -> list[str]:
    """The names, stripped of blanks unless they are known as they are."""
    stripped = [name.strip() for name in names]
    return names if recognize(map(_plain, names)) else stripped


def header_of(name: str, *, is_json: bool) -> str:
    """The header of a column; `_plain` is the inverse."""
    name = f"{name}{JSON_SUFFIX}" if is_json else name
    # A spreadsheet runs a header as a formula too.
    return f"'{name}{QUOTED_SUFFIX}" if name.startswith(FORMULA_SIGNS) or _is_quoted(name) else name


def _is_quoted(name: str) -> bool:
    return name.startswith("'") and name.endswith(QUOTED_SUFFIX)


def _plain(name: str) -> str:
    return _unquoted(name).removesuffix(JSON_SUFFIX)


def _unquoted(name: str) -> str:
    return name[1:].removesuffix(QUOTED_SUFFIX) if _is_quoted(name) else name


def has_known_header(start: bytes) -> bool:
    """Whether a file with this beginning is a CSV table whose columns match a known form."""
    line, _, rest = start.partition(b"\n")
    if _SEPARATOR.match(line.decode("utf-8", "replace")):
        line = rest.partition(b"\n")[0]
    return _has_known_names(line.decode("utf-8", "replace"))


def _has_known_names(line: str) -> bool:
    return recognize(map(_plain, _names(line, _delimiter(line)))) is not None


def _delimiter(line: str) -> str:
    """The delimiter that gives a known form, else the most columns; a comma in case of a tie."""
    known = [sign for sign in DELIMITERS if recognize(map(_plain, _names(line, sign)))]
    return max(known or DELIMITERS, key=lambda sign: len(_names(line, sign)))


def _names(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _row(row: int, header: list[str], cells: list[str]) -> SourceRow | RowError:
    columns = dict(zip(map(_unquoted, header), cells, strict=True))
    try:
        _remove_apostrophes(columns)
        return SourceRow(row, dict(_values(columns)))
    except _CellError as error:
        field, message = error.args
        snippet = columns[field][:SNIPPET_CHARACTERS]
        return RowError(row, message, field, snippet)


class _CellError(Exception):
    """(column, message)"""


def _remove_apostrophes(columns: dict[str, str]) -> None:
    quoted = columns.pop(QUOTED, "")
    if not quoted:
        return
    try:
        names = parse(quoted)
        if not isinstance(names, list):
            raise ValueError("no list")
        for name in names:
            columns[name] = columns[name].removeprefix("'")
    except (ValueError, KeyError, TypeError) as error:
        columns[QUOTED] = quoted
        raise _CellError(QUOTED, "must be a JSON list of columns") from error


def _values(columns: dict[str, str]) -> Iterator[tuple[str, Any]]:
    for name, cell in columns.items():
        if not name.endswith(JSON_SUFFIX):
            yield name, parse_messages(cell)
        elif cell:
            try:
                yield _plain(name), parse(cell)
            except ValueError as error:
                raise _CellError(name, f"not JSON: {error}") from error
