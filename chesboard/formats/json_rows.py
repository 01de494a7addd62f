"""Rows of JSONL (an object a line) and of JSON (an array of objects, bare or in an object)."""

import codecs
import json
import zlib
from collections.abc import Iterator

from chesboard.formats.errors import FormatError
from chesboard.formats.rows import SNIPPET_CHARACTERS, RowError, SourceRow
from chesboard.formats.unpacking import Buffered

MAX_ROW_BYTES = 16 << 20
"""A row is held in memory as a whole, and one of many megabytes is a file that lacks newlines."""

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
    """(number from 1, line). Of a line that is too long, only its start is kept."""
    row = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        row += 1
        if line == b"\n":
            # Millions of empty lines are no work.
            row += _skip_empty(file)
            continue
        yield row, line
        while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_ROW_BYTES + 1)


def _skip_empty(file: Buffered) -> int:
    """Pass over the empty lines that come next; how many they were."""
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
    """Raises ValueError for whatever is wrong, too deep nesting included."""
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
    """The items of an array, parsed one by one: the array as a whole is never held.

    Raises:
        FormatError: it is no JSON, from some item on.
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
            # What an object says after its rows is of no interest.
            return


def _enter_wrapper(text: "_Text") -> None:
    """Go to the first list that an object holds: {"version": 1, "data": [...]}."""
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
    """A JSON text that is taken apart from the front while it is being read."""

    def __init__(self, file: Buffered) -> None:
        self._file = file
        # A broken byte becomes a lone surrogate, which only the row that holds it cannot have.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._json = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._gone = 0
        self._is_whole = False

    def _more(self, size: int = CHUNK_BYTES) -> bool:
        """Read on; False at the file's end."""
        data = self._read(size)
        self._gone += self._at
        self._text = self._text[self._at :] + self._decoder.decode(data, self._is_whole)
        self._at = 0
        return bool(data)

    def _read(self, size: int) -> bytes:
        """So many bytes, or what there is before the end, or before a packed file's break."""
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
        """The next character that is not blank, which stays; "" at the end."""
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
        """Whatever comes next: object, list, text, number, truth value or null."""
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
                # A number may go on behind what has been read of it.
                if end < len(self._text) or self._is_whole:
                    self._at = end
                    return value
            if len(self._text) - self._at > MAX_ROW_BYTES:
                raise self._error(f"an item is broken, or larger than {MAX_ROW_BYTES:,} bytes")
            self._more(size)
            size *= 2  # so that a large item is not parsed again for every chunk of it

    def _error(self, message: str, at: int | None = None) -> FormatError:
        at = self._at if at is None else at
        begun = self._text[self._at : at + 1]
        if any("\udc80" <= character <= "\udcff" for character in begun):
            message = "not UTF-8"
        what = "The file is not UTF-8" if message == "not UTF-8" else "The file is not JSON"
        reason = "" if message == "not UTF-8" else f": {message}"
        return FormatError(f"{what}{reason}, at character {self._gone + at + 1:,}.")
