"""Reads Parquet, Arrow and ORC, and writes Parquet, in a child process (table_child.py).

They are decoded by a large C++ library, and so is zstd. In a process of its own, with limits on
memory and CPU time, a malicious file can harm nothing else, and the calling process stays small.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, cast

from chesboard.formats.errors import FileTooLargeError, FormatError
from chesboard.formats.json_rows import read_lines
from chesboard.formats.rows import RowError, SourceRow
from chesboard.formats.unpacking import Source, buffered

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).resolve().with_name("table_child.py")
"""Run by its path, so that an installed package works from any folder."""

COPY_BYTES = 1 << 20
DAMAGED = "The file is damaged, or asks for more memory or time than a dataset needs."

Kind = Literal["parquet", "arrow", "stream", "orc"]


def read(file: Source, kind: Kind, max_bytes: int) -> Iterator[SourceRow | RowError]:
    """The rows of a table. A seekable file is read from its start, others from their position.

    Raises:
        FormatError: not a readable table.
        FileTooLargeError: its rows, written as JSON, take more than `max_bytes`.
    """
    with _as_file(file) as table, _child(kind, stdin=table) as child:
        seen = _Limited(cast(IO[bytes], child.stdout), max_bytes)
        yield from read_lines(buffered(seen))
        _finish(child)


class Unzstd:
    """The decompressed contents of a zstd file, to be closed.

    packed_bytes: the size of the file. Raises FormatError, while being read, where it is damaged.
    """

    def __init__(self, file: Source) -> None:
        self._stack = ExitStack()
        packed = self._stack.enter_context(_as_file(file))
        self.packed_bytes = os.fstat(packed.fileno()).st_size
        self._child = self._stack.enter_context(_child("zstd", stdin=packed))

    def read(self, size: int = -1, /) -> bytes:
        data = cast(IO[bytes], self._child.stdout).read(size)
        if not data:
            _finish(self._child)
        return data

    def close(self) -> None:
        self._stack.close()


def write(columns: list[dict[str, str]], rows: Iterable[list[Any]]) -> Iterator[bytes]:
    """A table of the rows, each a list of cells in the order of the columns {name, kind}."""
    with _child("write", stdin=subprocess.PIPE) as child:
        failed: list[BaseException] = []

        def feed() -> None:
            try:
                with cast(IO[bytes], child.stdin) as pipe:
                    pipe.write(json.dumps(columns).encode() + b"\n")
                    for row in rows:
                        pipe.write(json.dumps(row).encode() + b"\n")
            except BaseException as error:  # raised again in the consumer's thread
                failed.append(error)
                child.kill()

        feeder = threading.Thread(target=feed, name="parquet-feeder", daemon=True)
        feeder.start()
        output = cast(IO[bytes], child.stdout)
        while data := output.read(COPY_BYTES):
            yield data
        feeder.join()
        if failed:
            raise failed[0]
        _finish(child)


@contextmanager
def _as_file(file: Source) -> Iterator[IO[bytes]]:
    """The upload as a file that another process can read: itself, or a copy on disk."""
    if _has_number(file):
        cast(IO[bytes], file).seek(0)
        yield cast(IO[bytes], file)
        return
    with tempfile.TemporaryFile() as copy:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)  # type: ignore[attr-defined]
        while data := file.read(COPY_BYTES):
            copy.write(data)
        copy.flush()
        copy.seek(0)
        yield cast(IO[bytes], copy)


def _has_number(file: Source) -> bool:
    """Whether it is a file of the system; a spooled upload writes itself to disk to become one."""
    try:
        return cast(IO[bytes], file).fileno() >= 0
    except (AttributeError, OSError):
        return False


@contextmanager
def _child(task: str, stdin: Any) -> "Iterator[subprocess.Popen[bytes]]":
    child = subprocess.Popen(  # noqa: S603 - our own program, of our own arguments
        # -P: neither the folder of the program nor the current one is searched for modules.
        [sys.executable, "-P", str(PROGRAM), task],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # No environment is inherited: neither secrets nor settings.
        env={"ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _finish(child: "subprocess.Popen[bytes]") -> None:
    """Wait for the child.

    Raises:
        FormatError: it failed; the message is the child's.
    """
    said = cast(IO[bytes], child.stderr).read().decode("utf-8", "replace")
    if child.wait() == 0:
        return
    try:
        message = json.loads(said.splitlines()[-1])["error"]
    except (IndexError, ValueError, KeyError, TypeError):
        message = DAMAGED
        log.warning("the process that reads tables ended with %s: %s", child.wait(), said[-2000:])
    raise FormatError(message)


class _Limited:
    def __init__(self, source: IO[bytes], max_bytes: int) -> None:
        self._source = source
        self._left = max_bytes

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise FileTooLargeError("The table unpacks to more bytes than this server accepts.")
        return data
