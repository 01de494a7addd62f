"""Buffered reading, and decompression of gzip, bzip2, xz and zstd with limits on size and ratio."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

from chesboard.formats.errors import FileTooLargeError, FormatError

BUFFER_BYTES = 1 << 16

MAX_RATIO = 200
"""Maximum compression ratio: text has about 5, very repetitive text 50, a gzip bomb up to 1000."""
RATIO_FREE_BYTES = 32 << 20
"""Decompressed size below which the ratio is not limited."""
XZ_MEMORY_BYTES = 128 << 20
"""Limit on what xz may ask for; its highest preset needs 65 MiB."""

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zstd")


class Source(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Raw(io.RawIOBase):
    """A raw stream over a source; counts the bytes. Closing leaves the source open."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.seen = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        self.seen += len(data)
        return len(data)


class _Limited(_Raw):
    """The decompressed contents of a file, up to a size and a ratio."""

    def __init__(self, unpacked: Source, packed_size: Callable[[], int], max_bytes: int) -> None:
        super().__init__(unpacked)
        self._packed_size = packed_size
        self._max_bytes = max_bytes

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = super().readinto(buffer)
        check_size(self.seen, self._packed_size(), self._max_bytes)
        return size


def check_size(unpacked: int, packed: int, max_bytes: int) -> None:
    """Raises:
    FileTooLargeError: more than `max_bytes`, or a compression ratio above the limit.
    """
    if unpacked > max_bytes:
        raise FileTooLargeError(f"The file unpacks to more than {max_bytes:,} bytes.")
    if unpacked > max(RATIO_FREE_BYTES, MAX_RATIO * packed):
        raise FileTooLargeError(
            f"The file unpacks to more than {MAX_RATIO} times its size, as no dataset does. "
            "Unpack it yourself if it is meant so."
        )


class _Gunzipped:
    """Yields decompressed data before an incomplete end is detected."""

    def __init__(self, packed: Source) -> None:
        self._file = gzip.GzipFile(fileobj=packed)  # type: ignore[call-overload]

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self._file.read1(size)
        return data


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Streams:
    """The contents of compressed streams, one after another."""

    def __init__(self, packed: Source, start: Callable[[], _Decompressor]) -> None:
        self._packed = packed
        self._start = start
        self._stream = start()
        self._is_begun = False

    def read(self, size: int = -1, /) -> bytes:
        data = b""
        while not data:
            given = self._stream.unused_data if self._stream.eof else b""
            if self._stream.eof:
                self._stream, self._is_begun = self._start(), False
            if not given and self._stream.needs_input:
                given = self._packed.read(BUFFER_BYTES)
                if not given:
                    if self._is_begun:
                        raise EOFError("the compressed data ends before its end marker")
                    return b""
            self._is_begun = self._is_begun or bool(given.strip(b"\0"))
            data = self._stream.decompress(given, size)
        return data


class Counted:
    """A source that counts its bytes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.seen = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self.seen += len(data)
        return data


class Joined:
    """Bytes that were read already, then the rest of their source."""

    def __init__(self, first: bytes, rest: Source) -> None:
        self._first = io.BytesIO(first)
        self._rest = rest

    def read(self, size: int = -1, /) -> bytes:
        return self._first.read(size) or self._rest.read(size)


Buffered = io.BufferedReader
"""A buffer over one of the above."""


def buffered(source: Source) -> Buffered:
    return io.BufferedReader(_Raw(source), BUFFER_BYTES)


def read_ahead(file: Buffered, size: int) -> bytes:
    """`size` bytes, or fewer before the end of the file or a defect in its compression."""
    parts: list[bytes] = []
    try:
        while size > 0 and (data := file.read1(size)):
            parts.append(data)
            size -= len(data)
    except (EOFError, OSError, zlib.error, lzma.LZMAError):
        if not parts:
            raise
    return b"".join(parts)


def compression_of(start: bytes) -> str | None:
    """gzip, bz2, xz or zstd, by a file's first bytes; None for others."""
    return next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)


def without_suffix(name: str) -> str:
    """The name without the suffix of a compression."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    for suffix in (".tgz", ".tbz2", ".txz"):
        if name.lower().endswith(suffix):
            return f"{name[: -len(suffix)]}.tar"
    return name


def unpacked(packed: Buffered, compression: str, max_bytes: int) -> Buffered:
    """The decompressed contents of gzip, bz2 or xz.

    Raises, while being read:
        FileTooLargeError: more than `max_bytes`, or a compression ratio above the limit.
        gzip.BadGzipFile, lzma.LZMAError, EOFError, OSError, zlib.error: damaged or incomplete.
    """
    counted = Counted(packed)
    if compression == "gzip":
        return limited(_Gunzipped(counted), lambda: counted.seen, max_bytes)
    start = bz2.BZ2Decompressor if compression == "bz2" else _xz
    return limited(_Streams(counted, start), lambda: counted.seen, max_bytes)


def limited(source: Source, packed_size: Callable[[], int], max_bytes: int) -> Buffered:
    """What a source gives, checked by `check_size` while it is read."""
    return io.BufferedReader(_Limited(source, packed_size, max_bytes), BUFFER_BYTES)


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES)


def explain_damage(error: Exception) -> FormatError:
    """The error to show where a compressed file is damaged."""
    return FormatError(f"The compressed file is damaged or incomplete: {error}")
