"""An incremental JSON parser over a file, and explanations of what is no JSON."""

import codecs
import json

from chesboard.formats.errors import FormatError
from chesboard.formats.repeated_keys import RepeatedKeys
from chesboard.formats.text import has_stray_bytes
from chesboard.formats.unpacking import Buffered, read_ahead

MAX_ROW_BYTES = 16 << 20
MAX_COLUMNS = 2000
"""Of a row, as of a table (table_child.py)."""
"""Maximum size of a row, which is held in memory; a longer line is a file without newlines."""

CHUNK_BYTES = 1 << 18
_BLANKS = " \t\n\r"


def explain(text: str, at: int, message: str) -> str:
    """What is wrong at a place of a text, for what other programs take for JSON; else `message`."""
    sign, before = text[at : at + 1], text[:at].rstrip()[-1:]
    if (sign and sign in "]}" and before == ",") or "trailing comma" in message:
        return "a comma stands before the closing bracket"
    if sign == "'":
        return "single quotation marks (a Python literal?): JSON has double ones"
    if text.startswith(("//", "/*", "#"), at):
        return "a comment, which JSON does not have"
    if text.startswith(("None", "True", "False", "undefined"), at):
        return "a word of another language: JSON has null, true and false"
    return message


class JsonText:
    """An incremental JSON parser over a file. keys: notes the keys that are named twice."""

    def __init__(self, file: Buffered, keys: RepeatedKeys) -> None:
        self.keys = keys
        self._file = file
        # Invalid UTF-8 becomes lone surrogates, which are rejected row by row.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""
        self._at = 0
        self._gone = 0
        self._is_whole = False

    def _more(self, size: int = CHUNK_BYTES) -> bool:
        """Read more of the file; False at its end."""
        data = read_ahead(self._file, size)
        self._is_whole = not data
        self._gone += self._at
        self._text = self._text[self._at :] + self._decoder.decode(data, self._is_whole)
        self._at = 0
        return bool(data)

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
            raise self.error(f"expected {expected}, found {sign or 'the end'}")
        self._at += 1
        return sign

    def value(self) -> object:
        """Parse the next JSON value."""
        self.next_sign()
        size = CHUNK_BYTES
        while True:
            try:
                value, end = self.keys.decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise self.error("nested too deeply") from None
            except json.JSONDecodeError as error:
                if self._is_whole:
                    raise self.error(
                        explain(self._text, error.pos, error.msg), error.pos
                    ) from error
            except ValueError as error:  # a number of thousands of digits
                raise self.error(str(error)) from error
            else:
                # A number may continue beyond what has been read.
                if end < len(self._text) or self._is_whole:
                    self._at = end
                    return value
            if len(self._text) - self._at > MAX_ROW_BYTES:
                raise self.error(f"an item is broken, or larger than {MAX_ROW_BYTES:,} bytes")
            self._more(size)
            size *= 2  # exponential growth: a large item is not parsed again for every chunk

    def error(self, message: str, at: int | None = None) -> FormatError:
        """The error for what stands at a place of the text (default: the next character)."""
        at = self._at if at is None else at
        is_text = not has_stray_bytes(self._text[self._at : at + 1])
        what = f"not JSON: {message}" if is_text else "not UTF-8"
        return FormatError(f"The file is {what}, at character {self._gone + at + 1:,}.")
