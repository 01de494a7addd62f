"""Detects the kind of a file and streams its rows.

JSONL, JSON, CSV and Parquet are read, each also gzipped. The kind is detected from the first bytes;
the name decides only where these are ambiguous. A row that cannot be read becomes a RowError, and
reading continues; only a file of none of these kinds raises.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from chesboard.formats import csv_rows, json_rows, parquet_rows
from chesboard.formats.errors import FormatError
from chesboard.formats.rows import RowError, SourceRow
from chesboard.formats.sniffing import what_it_is
from chesboard.formats.unpacking import Source, buffered, unpacked

Kind = Literal["jsonl", "json", "csv", "parquet"]

BOM = b"\xef\xbb\xbf"
PEEKED_BYTES = 1 << 16
PARQUET = b"PAR1"
GZIP = b"\x1f\x8b"

Rows = Iterator[SourceRow | RowError]


@dataclass(frozen=True, slots=True)
class Opened:
    """A file of a known kind, and an iterator over its rows.

    Iterating raises FormatError where the file turns out to be invalid, and FileTooLargeError where
    it decompresses to more than the limit.
    """

    kind: Kind
    is_packed: bool
    rows: Rows


def read_rows(file: Source, filename: str, max_bytes: int) -> Rows:
    """The rows of a file; see `open_rows`."""
    return open_rows(file, filename, max_bytes).rows


def open_rows(file: Source, filename: str, max_bytes: int) -> Opened:
    """Detect the kind of a file, which is at its start.

    max_bytes: limit on the decompressed size.

    Raises:
        FormatError: not a file of one of the kinds above.
        FileTooLargeError: decompresses to more than `max_bytes`, or is a decompression bomb.
    """
    name = filename.lower()
    plain = buffered(file)
    is_packed = plain.peek(2).startswith(GZIP)
    if is_packed:
        name = name.removesuffix(".gz")
        plain = unpacked(plain, max_bytes)
    with _damage_explained():
        start = plain.peek(PEEKED_BYTES)
    if start.startswith(PARQUET):
        # Parquet has its metadata at the end, so the reader needs the file itself.
        table = plain if is_packed else file
        return Opened("parquet", is_packed, _guarded(parquet_rows.read(table, max_bytes)))
    if (message := what_it_is(start)) is not None:
        raise FormatError(message)
    if start.startswith(BOM):
        plain.read(len(BOM))
        start = start[len(BOM) :]
    kind = kind_of(name, start)
    return Opened(kind, is_packed, _guarded(READERS[kind](plain)))


READERS = {"jsonl": json_rows.read_lines, "json": json_rows.read_array, "csv": csv_rows.read}


def _guarded(rows: Rows) -> Rows:
    with _damage_explained():
        yield from rows


@contextmanager
def _damage_explained() -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError(f"The gzipped file is damaged or incomplete: {error}") from error


def kind_of(name: str, start: bytes) -> Literal["jsonl", "json", "csv"]:
    """The kind of a text file, by its first bytes (without BOM) and its name."""
    suffix = PurePath(name).suffix
    start = start.lstrip()
    if start.startswith(b"["):
        return "jsonl" if suffix in (".jsonl", ".ndjson") and not _is_of_rows(start) else "json"
    if start.startswith(b"{"):
        return "json" if _is_wrapped(start, suffix) else "jsonl"
    if suffix in (".csv", ".tsv") or csv_rows.has_known_header(start):
        return "csv"
    return "jsonl"


def _is_of_rows(start: bytes) -> bool:
    """Whether a list contains the rows, rather than being the first line of JSONL."""
    if not start[1:].lstrip().startswith((b"{", b"]")):
        return False
    line, _, rest = start.partition(b"\n")
    if not rest.strip():
        return True
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


_WRAPPER = re.compile(
    rb'\{\s*(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,\s*)*'
    rb'"(?:data|rows|items|examples|train|test|pairs|records|instances)"\s*:\s*\[\s*[{\]]'
)


def _is_wrapped(start: bytes, suffix: str) -> bool:
    """Whether an object contains the rows ({"data": [...]}), rather than being the first one."""
    if _WRAPPER.match(start):
        return True
    # An object over several lines is not JSONL.
    line, newline, _ = start.partition(b"\n")
    if line.strip() == b"{":
        return True
    if suffix != ".json":
        return False
    if not newline:
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return not line.rstrip().endswith(b"}")
    return False
