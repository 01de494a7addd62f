"""Detects the kind of a file and streams its rows.

JSONL, JSON, CSV, Parquet, Arrow and ORC are read, each also compressed (gzip, bzip2, xz, zstd) or
in a zip or tar archive. The kind is detected from the first bytes; the name decides only where
these are ambiguous. A row that cannot be read becomes a RowError, and reading continues; only a
file of none of these kinds raises.
"""

import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, cast

from chesboard.formats import csv_rows, json_documents, json_rows, table_rows
from chesboard.formats.archives import Archive, TarArchive, ZipArchive, choose_table
from chesboard.formats.errors import ErrorItem, FormatError
from chesboard.formats.file_names import Kind, StoredKind, TextKind, kind_of_name
from chesboard.formats.file_warnings import FileWarnings
from chesboard.formats.json_tables import unwrap
from chesboard.formats.repeated_keys import RepeatedKeys
from chesboard.formats.rows import RowError, SourceRow
from chesboard.formats.shards import Shards
from chesboard.formats.sniffing import is_tar, is_zip, what_it_is
from chesboard.formats.unpacking import (
    Buffered,
    Source,
    buffered,
    compression_of,
    explain_damage,
    limited,
    unpacked,
)

BOM = b"\xef\xbb\xbf"
PEEKED_BYTES = 1 << 16

Rows = Iterator[SourceRow | RowError]


@dataclass(frozen=True, slots=True)
class Opened:
    """A file of a known kind, and an iterator over its rows.

    Iterating raises FormatError where the file turns out to be invalid, and FileTooLargeError where
    it decompresses to more than the limit.

    is_packed: compressed, or in an archive. member: the name of the table that is read, where the
    file is an archive. warnings: what is doubtful, as far as the rows were read.
    """

    kind: Kind
    is_packed: bool
    rows: Rows
    member: str | None = None
    warnings: FileWarnings = field(default_factory=FileWarnings)


def read_rows(file: Source, filename: str, max_bytes: int) -> Rows:
    """The rows of a file; see `open_rows`."""
    return open_rows(file, filename, max_bytes).rows


def open_rows(
    file: Source, filename: str, max_bytes: int, *, member: str | None = None, is_whole: bool = True
) -> Opened:
    """Detect the kind of a file, which is at its start; an archive must be seekable.

    max_bytes: limit on the decompressed size. member: which of several tables of an archive or of
    a JSON object to read. is_whole: whether this is more than the first part of a file.

    Raises:
        FormatError: not a file of one of the kinds above, several tables and no `member` (the items
            name them), or a part of a file that can only be read as a whole.
        FileTooLargeError: decompresses to more than `max_bytes`, or is a decompression bomb.
    """
    stack = ExitStack()
    try:
        opener = _Opener(max_bytes, is_whole, stack)
        with _damage_explained():
            opened = opener.open(file, filename, member or None)
    except BaseException:
        stack.close()
        raise
    return replace(opened, rows=_guarded(opened.rows, stack))


@dataclass(frozen=True, slots=True)
class _Opener:
    """stack: closes what is open when the rows end."""

    max_bytes: int
    is_whole: bool
    stack: ExitStack

    def open(self, file: Source, name: str, member: str | None) -> Opened:
        plain, is_packed = self._decompressed(file)
        start = plain.peek(PEEKED_BYTES)
        if is_zip(start):
            if is_packed:
                raise FormatError("The file is a compressed zip archive. Unpack it once.")
            self._needs_whole("A zip archive has its directory at its end")
            cast(IO[bytes], file).seek(0)
            return self._of_archive(ZipArchive(cast(IO[bytes], file), self.max_bytes), member)
        if is_tar(start):
            self._needs_whole("A tar archive names its files all along")
            return self._of_archive(TarArchive(lambda: self._from_start(file)), member)
        # Tables have their metadata at the end, so they are read from the file itself.
        return self._of_table(plain, name, member, None if is_packed else file)

    def _from_start(self, file: Source) -> Source:
        cast(IO[bytes], file).seek(0)
        return self._decompressed(file)[0]

    def _decompressed(self, file: Source) -> tuple[Buffered, bool]:
        """(the contents, whether they were compressed)"""
        stream = buffered(file)
        compression = compression_of(stream.peek(8))
        if compression is None:
            return stream, False
        if compression != "zstd":
            return unpacked(stream, compression, self.max_bytes), True
        is_file = hasattr(file, "seek")
        plain = table_rows.Unzstd(file if is_file else stream)
        self.stack.callback(plain.close)
        return limited(plain, lambda: plain.packed_bytes, self.max_bytes), True

    def _needs_whole(self, reason: str) -> None:
        if not self.is_whole:
            raise FormatError(f"{reason}, so a part of it cannot be previewed.")

    def _of_table(
        self, plain: Buffered, name: str, member: str | None, table: Source | None
    ) -> Opened:
        """What holds one table, or is a JSON object. `table`: the file, if it is not compressed."""
        is_packed = table is None
        start = plain.peek(PEEKED_BYTES)
        if (stored := _stored_kind(start)) is not None:
            kind, child = stored
            self._needs_whole(f"{_NAMES[kind]} file has its schema at its end")
            _refuse_member(member)
            source = plain if table is None else table
            return Opened(kind, is_packed, table_rows.read(source, child, self.max_bytes))
        if (message := what_it_is(start, name)) is not None:
            raise FormatError(message)
        if start.startswith(BOM):
            plain.read(len(BOM))
            start = start[len(BOM) :]
        text_kind = kind_of(name, start)
        warnings = FileWarnings()
        rows = _text_rows(plain, text_kind, start, member, warnings)
        return Opened(text_kind, is_packed, rows, member, warnings)

    def _of_archive(self, archive: Archive, wanted: str | None) -> Opened:
        shards, inner, doubts = choose_table(archive, wanted)
        first = self._of_file(archive, shards.files[0], inner)
        for doubt in doubts:
            first.warnings.add(doubt)
        rows = self._of_all(archive, shards, first, inner)
        name = f"{shards.name}/{inner}" if inner else shards.name
        return replace(first, is_packed=True, rows=rows, member=name)

    def _of_file(self, archive: Archive, name: str, inner: str | None) -> Opened:
        with _named(name):
            plain, _ = self._decompressed(archive.open(name))
            start = plain.peek(PEEKED_BYTES)
            if is_tar(start) or is_zip(start):
                raise FormatError("an archive within the archive is not opened. Upload it singly.")
            return self._of_table(plain, name, inner, None)

    def _of_all(self, archive: Archive, shards: Shards, first: Opened, inner: str | None) -> Rows:
        """The rows of all shards, numbered through."""
        last = 0
        for name in shards.files:
            opened = first if name == shards.files[0] else self._of_file(archive, name, inner)
            if opened is not first:
                first.warnings.watch(opened.warnings.__iter__)
            before = last
            with _named(name):
                for row in opened.rows:
                    last = before + row.row
                    yield replace(row, row=last) if before else row


_NAMES: dict[StoredKind, str] = {"parquet": "A Parquet", "arrow": "An Arrow", "orc": "An ORC"}


def _stored_kind(start: bytes) -> tuple[StoredKind, table_rows.Kind] | None:
    """The kind of a table that the child process reads, by its magic."""
    if start.startswith(b"PAR1"):
        return "parquet", "parquet"
    if start.startswith(b"ARROW1\0\0"):
        return "arrow", "arrow"
    if start.startswith(b"\xff\xff\xff\xff"):
        return "arrow", "stream"
    if start.startswith(b"ORC") and not start[3:4].isalnum() and start[3:4] not in b" ,;|\t_-\"'":
        return "orc", "orc"
    return None


def _text_rows(
    plain: Buffered, kind: TextKind, start: bytes, member: str | None, warnings: FileWarnings
) -> Rows:
    is_object = start.lstrip().startswith(b"{")
    if is_object and (kind == "json" or b"\n" not in start.strip()):
        return json_documents.read(plain, member, warnings, is_line=kind == "jsonl")
    _refuse_member(member)
    if kind == "csv":
        return csv_rows.read(plain, warnings)
    keys = RepeatedKeys()
    warnings.watch(keys.sentences)
    read = json_rows.read_lines if kind == "jsonl" else json_rows.read_array
    return unwrap(read(plain, keys))


def _refuse_member(member: str | None) -> None:
    if member is not None:
        raise FormatError(
            "The file holds one table and no members.",
            [{"field": "member", "message": "must be left out for this file"}],
        )


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say in errors which file of an archive is at fault."""
    try:
        yield
    except FormatError as error:
        items = [_within(name, item) for item in error.items]
        raise type(error)(f"{name}: {error}", items) from error


def _within(name: str, item: ErrorItem) -> ErrorItem:
    if item.get("field") != "member" or "snippet" not in item:
        return item
    return {**item, "snippet": f"{name}/{item['snippet']}"}


def _guarded(rows: Rows, stack: ExitStack) -> Rows:
    with stack, _damage_explained():
        yield from rows


@contextmanager
def _damage_explained() -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the data
        raise explain_damage(error) from error


def kind_of(name: str, start: bytes) -> TextKind:
    """The kind of a text file, by its first bytes (without BOM) and its name."""
    named = kind_of_name(name)
    start = start.lstrip()
    if start.startswith(b"["):
        return "jsonl" if named == "jsonl" and not _is_of_rows(start) else "json"
    if start.startswith(b"{"):
        return "json" if _is_wrapped(start, is_json=named == "json") else "jsonl"
    if named == "csv" or csv_rows.has_known_header(start):
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


def _is_wrapped(start: bytes, *, is_json: bool) -> bool:
    """Whether a file begins with an object over several lines, or with one that holds rows.

    is_json: by its name.
    """
    if _WRAPPER.match(start):
        return True
    line, newline, behind = start.partition(b"\n")
    if not newline:
        return is_json
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and line[error.pos :].lstrip().startswith(b"{"):
            return True
        if is_json:
            return not line.rstrip().endswith(b"}")
        return line.rstrip().endswith((b"{", b"[", b","))
    except (ValueError, RecursionError):
        return False
    return not behind.strip() and is_json
