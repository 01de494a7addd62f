"""Streaming readers of JSONL (an object a line) and JSON (an array of objects, also wrapped)."""

import codecs
import json
import zlib
from collections.abc import Iterator

from chesboard.formats.errors import FormatError
from chesboard.formats.rows import SNIPPET_CHARACTERS, RowError, SourceRow
from chesboard.formats.unpacking import Buffered

MAX_ROW_BYTES = 16 << 20
"""Maximum size of a row, which is held in memory; a longer line is a file without newlines."""

CHUNK_BYTES = 1 << 18
_BLANKS = " \t\n\r"

Rows = Iterator[SourceRow | RowError]


def read_lines(file: Buffered) -> Rows:
    for row, line in lines_of(file):
        if len(line) > MAX_ROW_BYTES:
            yield RowError(row, f"the line is longer than {MAX_ROW_BYTES:,} bytes")
        elif line.strip():
            yield parse_line(row, line)


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


def parse_line(row: int, line: bytes) -> SourceRow | RowError:
    try:
        value = parse(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return RowError(row, f"not UTF-8: byte {error.start + 1} of the line", snippet=_cut(line))
    except ValueError as error:
        return RowError(row, f"not JSON: {error}", snippet=_cut(line))
    if not isinstance(value, dict):
        return RowError(row, f"not a JSON object but {noun(value)}", snippet=_cut(line))
    return SourceRow(row, value)


def _cut(line: bytes) -> str:
    return line[: SNIPPET_CHARACTERS * 4].decode("utf-8", "replace").strip()[:SNIPPET_CHARACTERS]


def parse(text: str) -> object:
    """Raises:
    ValueError: not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from error
    except RecursionError:
        raise ValueError("nested too deeply") from None


def noun(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def read_array(file: Buffered) -> Rows:
    """The items of an array, parsed one by one in constant memory.

    Raises:
        FormatError: invalid JSON; the items before it are yielded first.
    """
    text = _Text(file)
    if text.next_sign() == "{":
        _enter_wrapper(text)
    text.take("[")
    if text.next_sign() == "]":
        return
    row = 0
    while True:
        row += 1
        item = text.value()
        if isinstance(item, dict):
            yield SourceRow(row, item)
        else:
            snippet = json.dumps(item, ensure_ascii=False)[:SNIPPET_CHARACTERS]
            yield RowError(row, f"not a JSON object but {noun(item)}", snippet=snippet)
        if text.take(",", "]") == "]":
            # The rest of a wrapping object is ignored.
            return


def _enter_wrapper(text: "_Text") -> None:
    """Advance to the first list in an object: {"version": 1, "data": [...]}."""
    text.take("{")
    while True:
        if text.next_sign() != '"':
            raise FormatError(
                "The file is one JSON object that holds no list of rows. Expected are an array "
                'of objects, {"data": [...]}, or one object a line.'
            )
        text.value()
        text.take(":")
        if text.next_sign() == "[":
            return
        text.value()
        if text.take(",", "}") == "}":
            raise FormatError(
                "The file is one JSON object that holds no list of rows. Expected are an array "
                'of objects, {"data": [...]}, or one object a line.'
            )


class _Text:
    """An incremental JSON parser over a file."""

    def __init__(self, file: Buffered) -> None:
        self._file = file
        # Invalid UTF-8 becomes lone surrogates, which are rejected row by row.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._json = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._gone = 0
        self._is_whole = False

    def _more(self, size: int = CHUNK_BYTES) -> bool:
        """Read more of the file; False at its end."""
        data = self._read(size)
        self._gone += self._at
        self._text = self._text[self._at :] + self._decoder.decode(data, self._is_whole)
        self._at = 0
        return bool(data)

    def _read(self, size: int) -> bytes:
        """`size` bytes, or fewer before the end of the file or a defect in its compression."""
        parts: list[bytes] = []
        try:
            while size > 0 and not self._is_whole:
                data = self._file.read1(size)
                parts.append(data)
                size -= len(data)
                self._is_whole = not data
        except (EOFError, OSError, zlib.error):
            if not parts:
                raise
        return b"".join(parts)

    def next_sign(self) -> str:
        """The next character that is not blank, without consuming it; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANKS:
                    return self._text[self._at]
                self._at += 1
            if self._is_whole or not self._more():
                return ""

    def take(self, *signs: str) -> str:
        sign = self.next_sign()
        if sign not in signs:
            expected = " or ".join(signs)
            raise self._error(f"expected {expected}, found {sign or 'the end'}")
        self._at += 1
        return sign

    def value(self) -> object:
        """Parse the next JSON value."""
        self.next_sign()
        size = CHUNK_BYTES
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._error("nested too deeply") from None
            except json.JSONDecodeError as error:
                if self._is_whole:
                    raise self._error(error.msg, error.pos) from error
            except ValueError as error:  # a number of thousands of digits
                raise self._error(str(error)) from error
            else:
                # A number may continue beyond what has been read.
                if end < len(self._text) or self._is_whole:
                    self._at = end
                    return value
            if len(self._text) - self._at > MAX_ROW_BYTES:
                raise self._error(f"an item is broken, or larger than {MAX_ROW_BYTES:,} bytes")
            self._more(size)
            size *= 2  # exponential growth: a large item is not parsed again for every chunk

    def _error(self, message: str, at: int | None = None) -> FormatError:
        at = self._at if at is None else at
        begun = self._text[self._at : at + 1]
        if any("\udc80" <= character <= "\udcff" for character in begun):
            message = "not UTF-8"
        what = "The file is not UTF-8" if message == "not UTF-8" else "The file is not JSON"
        reason = "" if message == "not UTF-8" else f": {message}"
        return FormatError(f"{what}{reason}, at character {self._gone + at + 1:,}.")
