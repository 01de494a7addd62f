"""Reads CSV, with conventions for values that are not text.

- A column named `x:json` is the column `x` with JSON in its cells; an empty cell is missing.
- A cell of any column may be a list of chat messages, as JSON, as a Python literal, or as NumPy
  prints one.
- A first line `sep=;` names the delimiter, as Excel writes it.
- A broken quotation mark, or a row of another width, rejects that row by its line.
- `chesboard:quoted` lists the columns of a row whose text was given a leading apostrophe as a guard
  against formulas; the apostrophe is removed.

The server's export (app/datasets/export_files.py) writes the first and the last.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from chesboard.formats.csv_dialects import (
    BLANK_BEFORE_QUOTE,
    SAMPLE_CHARACTERS,
    choose_dialect,
    has_blanks_behind,
)
from chesboard.formats.csv_doubts import Doubts
from chesboard.formats.csv_lines import FORMULA_SIGNS
from chesboard.formats.csv_records import Broken, Dialect, Lines, Record, Records
from chesboard.formats.errors import FormatError
from chesboard.formats.file_warnings import FileWarnings
from chesboard.formats.json_rows import parse
from chesboard.formats.json_text import MAX_COLUMNS, MAX_ROW_BYTES
from chesboard.formats.known_forms import recognize
from chesboard.formats.message_text import parse_messages
from chesboard.formats.rows import SNIPPET_CHARACTERS, RowError, SourceRow
from chesboard.formats.unpacking import Buffered

JSON_SUFFIX = ":json"
QUOTED = "chesboard:quoted"
QUOTED_SUFFIX = ":quoted"
DELIMITERS = ",;\t|"
MAX_EMPTY_LINES = 100_000
"""In a row. Each costs microseconds, and a file of nothing else has a thousand million of them."""

_SEPARATOR = re.compile(r'"?sep=([,;\t|])"?\s*$', re.I)
_EMPTY_LINES = ("\n", "\r", "\r\n")
_LINE_END = re.compile(rb"\r\n|\n|\r")


def read(file: Buffered, warnings: FileWarnings) -> Iterator[SourceRow | RowError]:
    """The rows of a table.

    warnings: gets what is doubtful about how the file is written.

    Raises:
        FormatError: no usable header, so many quotes are broken that there is no telling, or too
            many empty lines.
    """
    # Invalid UTF-8 becomes lone surrogates, which are rejected where they are part of a pair.
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    doubts = Doubts()
    warnings.watch(doubts.sentences)
    lines = Lines(doubts.seen(_lines(text)))
    header, delimiter, first = _read_header(lines)
    sample = lines.sample(SAMPLE_CHARACTERS)
    is_quoted = '"' in first
    has_blanks = has_blanks_behind(first, delimiter)
    dialect = choose_dialect(
        sample, delimiter, len(header), is_header_quoted=is_quoted, has_blanks=has_blanks
    )
    doubts.begin(dialect, is_header_quoted=is_quoted)
    try:
        for record in Records(lines, dialect, len(header)):
            if isinstance(record, Broken):
                snippet = "".join(record.lines[:1])[:SNIPPET_CHARACTERS] or None
                yield RowError(record.line, record.message, snippet=snippet)
                continue
            doubts.see(record)
            if len(record.cells) == len(header):
                yield _row(record.line, header, record.cells)
            elif record.cells:
                yield _ragged(record, len(header), delimiter)
    except csv.Error as error:
        raise FormatError(f"The table is not read beyond line {lines.last:,}: {error}.") from error


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines; of an overlong one the beginning.

    Raises:
        FormatError: too many empty lines in a row.
    """
    empty = 0
    while line := text.readline(MAX_ROW_BYTES + 1):
        empty = empty + 1 if line in _EMPTY_LINES else 0
        if empty > MAX_EMPTY_LINES:
            raise FormatError(
                f"The table has more than {MAX_EMPTY_LINES:,} empty lines in a row. Remove them."
            )
        yield line
        while len(line) > MAX_ROW_BYTES and not line.endswith(("\n", "\r")):
            line = text.readline(MAX_ROW_BYTES + 1)


def _read_header(lines: Lines) -> tuple[list[str], str, str]:
    """(names of the columns, delimiter, the line as it stands in the file)

    Raises:
        FormatError: no header, a name stands twice, or there are too many.
    """
    try:
        first = next(lines, "")
        while first and not first.strip():
            first = next(lines, "")
        named = _SEPARATOR.match(first)
        if named:
            first = next(lines, "")
        delimiter = named[1] if named else _delimiter(first)
        lines.put_back([first])
        has_blanks = BLANK_BEFORE_QUOTE.search(first) is not None
        header = _header(next(Dialect(delimiter, skips_blanks=has_blanks).reader(lines), []))
    except csv.Error as error:
        raise FormatError(f"The first line is no CSV header: {error}.") from error
    _check_names(header)
    return header, delimiter, first


def _check_names(header: list[str]) -> None:
    """Raises:
    FormatError: a name stands twice, or there are too many.
    """
    if len(header) > MAX_COLUMNS:
        raise FormatError(
            f"The CSV header names {len(header):,} columns; a table has {MAX_COLUMNS:,} at most."
        )
    twice = [name for name, times in Counter(header).items() if times > 1]
    if twice:
        names = ", ".join(repr(name[:SNIPPET_CHARACTERS]) for name in twice[:5])
        raise FormatError(f"The CSV header names a column twice: {names}. Rename one of them.")


def _ragged(record: Record, width: int, delimiter: str) -> RowError:
    message = f"{len(record.cells)} cells, but the header names {width} columns"
    return RowError(
        record.line, message, snippet=delimiter.join(record.cells[:8])[:SNIPPET_CHARACTERS]
    )


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
    lines = [line.decode("utf-8", "replace") for line in _LINE_END.split(start, maxsplit=2)[:2]]
    return _has_known_names(lines[-1 if _SEPARATOR.match(lines[0]) else 0])


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
