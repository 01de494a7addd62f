"""Splits the lines of a CSV table into records, strictly, and tells where a quote swallowed rows.

`csv.reader` joins lines for as long as a quotation mark is open. Where that mark was text, the rows
behind it end up in one cell. Here each record is held against its lines: a record that breaks the
rules of quoting rejects its first line by name, and the lines behind it are read again if they are
rows by themselves.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from chesboard.formats.json_text import MAX_ROW_BYTES

csv.field_size_limit(MAX_ROW_BYTES)

MAX_REREAD_CHARACTERS = 64 << 20
"""Limit on what is read again behind broken quotes, over the whole file."""
SWALLOWED_LINES = 4
"""So many lines that are all rows by themselves are rows, not one cell of text."""
SHARE_OF_ROWS = 0.8

_OPEN = "unexpected end of data"
"""What csv.Error says of a quoted cell that is never closed."""

# Lone surrogates that neither UTF-8 nor the error handler "surrogateescape" gives.
_QUOTE, _BACKSLASH = "\ud800", "\ud801"
_ESCAPED = re.compile(r'\\(["\\])')
_ESCAPED_QUOTE = re.compile(r'\\(")')

Quoting = Literal["doubled", "backslash", "none"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a table is written.

    quoting: a quotation mark in a quoted cell is doubled or follows a backslash; none: it is text.
    skips_blanks: blanks between a delimiter and a quoted cell are not part of it.
    halves_backslashes: two backslashes stand for one (with `backslash`).
    """

    delimiter: str
    quoting: Quoting = "doubled"
    skips_blanks: bool = False
    halves_backslashes: bool = False

    def reader(self, lines: Iterable[str]) -> "Iterator[list[str]]":
        """Raises csv.Error, while iterating, at a cell that breaks the rules."""
        is_raw = self.quoting == "none"
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_NONE if is_raw else csv.QUOTE_MINIMAL,
            quotechar=None if is_raw else '"',
            skipinitialspace=self.skips_blanks,
            strict=not is_raw,
        )

    def escaped(self, line: str) -> str:
        """The line with what backslashes escape replaced by placeholders."""
        if self.quoting != "backslash" or "\\" not in line:
            return line
        pattern = _ESCAPED if self.halves_backslashes else _ESCAPED_QUOTE
        return pattern.sub(lambda m: _QUOTE if m[1] == '"' else _BACKSLASH, line)

    def unescaped(self, cells: list[str]) -> list[str]:
        if self.quoting != "backslash":
            return cells
        return [cell.replace(_QUOTE, '"').replace(_BACKSLASH, "\\") for cell in cells]


@dataclass(frozen=True, slots=True)
class Record:
    """The cells of one record. `lines`: how it stands in the file; `line`: its first, from 1."""

    line: int
    cells: list[str]
    lines: list[str]
    is_doubtful: bool = False
    """Whether it may be several rows, joined by a quotation mark that was text."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that breaks the rules of quoting."""

    line: int
    message: str
    lines: list[str]
    is_open: bool = False
    """Whether its last cell is never closed."""


class Lines:
    """Iterates over lines with their numbers; lines can be put back.

    `last`: the number of the line that came last. An overlong line raises csv.Error.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._put_back: list[str] = []
        self._failure: Exception | None = None
        self.last = 0

    def put_back(self, lines: list[str]) -> None:
        self._put_back.extend(reversed(lines))
        self.last -= len(lines)

    def sample(self, characters: int) -> list[str]:
        """The next lines, which are iterated over nevertheless: so many that they are this long."""
        found: list[str] = []
        size = 0
        try:
            while size < characters and (line := next(self._lines, "")):
                found.append(line)
                size += len(line)
        except Exception as error:  # raised again behind the lines that were read
            self._failure = error
        self._put_back.extend(reversed(found))
        return found

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        if not self._put_back and self._failure is not None:
            raise self._failure
        line = self._put_back.pop() if self._put_back else next(self._lines)
        self.last += 1
        if len(line) > MAX_ROW_BYTES:
            raise csv.Error(f"the line is longer than {MAX_ROW_BYTES:,} characters")
        return line


class Records:
    """Iterates over the records of a table with `width` columns.

    Raises, while iterating:
        csv.Error: so much is broken that reading again would take without end.
    """

    def __init__(self, lines: Lines, dialect: Dialect, width: int) -> None:
        self._lines = lines
        self._dialect = dialect
        self._width = width
        self._taken: list[str] = []
        self._reread = 0
        self._is_quoting_proven = False
        self._reader = dialect.reader(self._take())

    def _take(self) -> Iterator[str]:
        # Not `for`: after an overlong line the next one is read.
        while True:
            try:
                line = next(self._lines)
            except StopIteration:
                return
            self._taken.append(line)
            yield self._dialect.escaped(line)

    def __iter__(self) -> Iterator[Record | Broken]:
        while True:
            self._taken = []
            first = self._lines.last + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._broken(first, str(error))
                self._reader = self._dialect.reader(self._take())
                continue
            found = self._checked(first, self._dialect.unescaped(cells))
            if isinstance(found, Broken):
                self._reader = self._dialect.reader(self._take())
            yield found

    def _checked(self, first: int, cells: list[str]) -> Record | Broken:
        lines = self._taken
        if len(lines) == 1 or self._dialect.quoting == "none":
            self._is_quoting_proven |= _proves_quoting(lines[0], self._dialect.delimiter)
            return Record(first, cells, lines)
        if len(cells) != self._width:
            if self._are_rows(lines[1:]):
                return self._swallow(first)
            return Record(first, cells, lines)
        if not all(self._is_row_as_it_stands(line) for line in lines):
            self._is_quoting_proven = True
            return Record(first, cells, lines)
        if len(lines) >= SWALLOWED_LINES:
            return self._swallow(first)
        is_doubtful = not self._is_quoting_proven or self._dialect.delimiter == "\t"
        return Record(first, cells, lines, is_doubtful)

    def _broken(self, first: int, reason: str) -> Broken:
        lines = self._taken
        if reason.startswith("the line is longer"):
            return Broken(first, reason, lines)
        is_open = reason == _OPEN
        if len(lines) > 1 and self._are_rows(lines[1:], may_go_on=not is_open):
            return self._swallow(first)
        if is_open:
            message = "a quotation mark opens a cell here and is never closed"
        else:
            message = f"not CSV: a quotation mark stands where none may ({reason})"
        if len(lines) > 1:
            message = f"{message}; lines {first:,} to {first + len(lines) - 1:,} are left out"
        return Broken(first, message, lines, is_open)

    def _swallow(self, first: int) -> Broken:
        """Reject the first line; those behind it are read again."""
        lines = self._taken
        self._reread += sum(map(len, lines[1:]))
        if self._reread > MAX_REREAD_CHARACTERS:
            raise csv.Error("quotation marks open cells and are not closed, again and again")
        self._lines.put_back(lines[1:])
        end = first + len(lines) - 1
        message = (
            f"a quotation mark opens a cell that would run to line {end:,}, over lines that are "
            "rows themselves"
        )
        return Broken(first, message, lines[:1])

    def _are_rows(self, lines: list[str], *, may_go_on: bool = False) -> bool:
        """Whether lines, read by themselves, are rows of the table.

        may_go_on: the last one may go on in the lines behind.
        """
        good = bad = 0
        try:
            for cells in self._dialect.reader(map(self._dialect.escaped, lines)):
                good += len(cells) == self._width
                bad += len(cells) not in (0, self._width)
        except csv.Error as error:
            if may_go_on and str(error) == _OPEN:
                good += 1
            else:
                bad += good == 0
        return good > 0 and good >= SHARE_OF_ROWS * (good + bad)

    def _is_row_as_it_stands(self, line: str) -> bool:
        return line.count(self._dialect.delimiter) == self._width - 1


def _proves_quoting(line: str, delimiter: str) -> bool:
    """Whether a line has quotes that can be nothing but quoting: doubled, or around a delimiter."""
    return '""' in line or any(delimiter in between for between in line.split('"')[1:-1])


def has_lone_backslash(line: str) -> bool:
    r"""Whether a backslash stands before something else than `"` and `\`."""
    return re.search(r'\\(?!["\\])', line.replace("\\\\", "")) is not None
