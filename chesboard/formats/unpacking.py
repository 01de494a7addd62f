"""Reading an upload through a buffer, and unpacking it without being flooded by it."""

import gzip
import io
from typing import Protocol

from chesboard.formats.errors import FileTooLargeError

BUFFER_BYTES = 1 << 16

MAX_RATIO = 200
"""Text packs to a fifth, very repetitive text to a fiftieth; gzip's worst is a thousandth."""
RATIO_FREE_BYTES = 32 << 20
"""Below this, any ratio does no harm."""


class Source(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Raw(io.RawIOBase):
    """Lets a reader be buffered, and counts what is read. Closing it leaves the source open."""

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
    """What a gzipped file unpacks to, up to a limit and a ratio."""

    def __init__(self, packed: "Buffered", max_bytes: int) -> None:
        self._packed = _Counted(packed)
        super().__init__(_AsItComes(gzip.GzipFile(fileobj=self._packed)))  # type: ignore[call-overload]
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


class _AsItComes:
    """Hands on what is unpacked before a broken end is noticed."""

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
"""Named here for signatures: a buffer over one of the above."""


def buffered(source: Source) -> Buffered:
    return io.BufferedReader(_Raw(source), BUFFER_BYTES)


def unpacked(packed: Buffered, max_bytes: int) -> Buffered:
    """The unpacked contents.

    Raises, while being read:
        FileTooLargeError: more than `max_bytes`, or more than a dataset's ratio.
        gzip.BadGzipFile, EOFError, zlib.error: damaged, or broken off.
    """
    return io.BufferedReader(_Unpacked(packed, max_bytes), BUFFER_BYTES)
