"""Buffered reading and gzip decompression with limits on size and ratio."""

import gzip
import io
from typing import Protocol

from chesboard.formats.errors import FileTooLargeError

BUFFER_BYTES = 1 << 16

MAX_RATIO = 200
"""Maximum compression ratio: text has about 5, very repetitive text 50, a gzip bomb up to 1000."""
RATIO_FREE_BYTES = 32 << 20
"""Decompressed size below which the ratio is not limited."""


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


class _Unpacked(_Raw):
    """The decompressed contents of a gzipped file, up to a size and a ratio."""

    def __init__(self, packed: "Buffered", max_bytes: int) -> None:
        self._packed = _Counted(packed)
        super().__init__(_Available(gzip.GzipFile(fileobj=self._packed)))  # type: ignore[call-overload]
        self._max_bytes = max_bytes

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = super().readinto(buffer)
        if self.seen > self._max_bytes:
            raise FileTooLargeError(f"The file unpacks to more than {self._max_bytes:,} bytes.")
        if self.seen > max(RATIO_FREE_BYTES, MAX_RATIO * self._packed.seen):
            raise FileTooLargeError(
                f"The file unpacks to more than {MAX_RATIO} times its size, as no dataset does. "
                "Unpack it yourself if it is meant so."
            )
        return size


class _Available:
    """Yields decompressed data before an incomplete end is detected."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read1(size)


class _Counted:
    def __init__(self, source: Source) -> None:
        self._source = source
        self.seen = 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.seen += len(data)
        return data


Buffered = io.BufferedReader
"""A buffer over one of the above."""


def buffered(source: Source) -> Buffered:
    return io.BufferedReader(_Raw(source), BUFFER_BYTES)


def unpacked(packed: Buffered, max_bytes: int) -> Buffered:
    """The decompressed contents.

    Raises, while being read:
        FileTooLargeError: more than `max_bytes`, or a compression ratio above the limit.
        gzip.BadGzipFile, EOFError, zlib.error: damaged or incomplete.
    """
    return io.BufferedReader(_Unpacked(packed, max_bytes), BUFFER_BYTES)
