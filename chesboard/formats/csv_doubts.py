"""What is doubtful about how a CSV table was read: a sentence each, with the first line."""

from collections.abc import Iterator

from chesboard.formats.csv_dialects import begins_with_quote, needlessly_wrapped
from chesboard.formats.csv_records import Dialect, Record, has_lone_backslash
from chesboard.formats.text import has_stray_bytes


class Doubts:
    """Counts doubtful lines and records while a table is read."""

    def __init__(self) -> None:
        self._dialect: Dialect | None = None
        self._is_header_quoted = False
        self._broken_text = _Count()
        self._joined = _Count()
        self._raw = _Count()
        self._wrapped = _Count()
        self._backslashes = _Count()
        self._escapes = _Count()
        self._line = 0

    def seen(self, lines: Iterator[str]) -> Iterator[str]:
        """The lines, each looked at once for what is not UTF-8."""
        for line in lines:
            self._line += 1
            if not line.isascii() and has_stray_bytes(line):
                self._broken_text.add(self._line)
            yield line

    def begin(self, dialect: Dialect, *, is_header_quoted: bool) -> None:
        """Say how the records that come are read."""
        self._dialect, self._is_header_quoted = dialect, is_header_quoted

    def see(self, record: Record) -> None:
        if record.is_doubtful:
            self._joined.add(record.line)
        dialect = self._dialect
        if dialect is None or len(record.lines) > 1:
            return
        line = record.lines[0]
        if dialect.quoting == "none" and begins_with_quote(line, dialect.delimiter):
            self._raw.add(record.line)
        is_plain = dialect.quoting == "doubled" and dialect.delimiter == "\t"
        if is_plain and not self._is_header_quoted and needlessly_wrapped(line, "\t"):
            self._wrapped.add(record.line)
        is_escaped = dialect.quoting == "backslash" and dialect.delimiter == "\t"
        if is_escaped and not self._is_header_quoted and '\\"' in line:
            self._escapes.add(record.line)
        if dialect.halves_backslashes and "\\" in line and has_lone_backslash(line):
            self._backslashes.add(record.line)

    def sentences(self) -> Iterator[str]:
        if self._raw.times:
            yield (
                f"{self._raw}: cells begin with a quotation mark, which is read as part of the "
                "text, because the table breaks where quotation marks are read as quoting."
            )
        if self._broken_text.times:
            yield (
                f"{self._broken_text}: not UTF-8, perhaps Windows-1252 or Latin-1. Save the file "
                "as UTF-8."
            )
        if self._joined.times:
            yield (
                f"{self._joined}: a cell in quotation marks runs over several lines that could be "
                "rows themselves. Look whether the mark belongs to the text."
            )
        if self._wrapped.times:
            yield (
                f"{self._wrapped}: cells stand in quotation marks that nothing requires. They are "
                "read as quoting and left out of the text."
            )
        if self._escapes.times:
            yield (
                f"{self._escapes}: a backslash before a quotation mark is read as an escape and "
                "left out of the text."
            )
        if self._backslashes.times:
            yield (
                f"{self._backslashes}: backslashes stand before other characters than a quotation "
                "mark, and are kept. Elsewhere two of them are read as one."
            )


class _Count:
    """How many lines, and the first."""

    def __init__(self) -> None:
        self.times = 0
        self._first = 0

    def add(self, line: int) -> None:
        self.times += 1
        self._first = self._first or line

    def __str__(self) -> str:
        if self.times == 1:
            return f"Line {self._first:,}"
        return f"{self.times:,} lines, first line {self._first:,}"
