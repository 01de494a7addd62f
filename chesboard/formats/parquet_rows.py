"""Reads and writes Parquet in a child process (chesboard/formats/parquet_child.py).

Parquet is decoded by a large C++ library. In a process of its own, with limits on memory and CPU
time, a malicious file can harm nothing else, and the calling process stays small.
"""

import json
import logging
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from chesboard.formats.errors import FileTooLargeError, FormatError
from chesboard.formats.json_rows import read_lines
from chesboard.formats.rows import RowError, SourceRow
from chesboard.formats.unpacking import Source, buffered

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).resolve().with_name("parquet_child.py")
"""Run by its path, so that an installed package works from any folder."""

COPY_BYTES = 1 << 20
DAMAGED = "The Parquet file is damaged, or asks for more memory or time than a dataset needs."


def read(file: Source, max_bytes: int) -> Iterator[SourceRow | RowError]:
    """The rows of a table. A seekable file is read from its start, others from their position.

    Raises:
        FormatError: not a readable table.
        FileTooLargeError: its rows, written as JSON, take more than `max_bytes`.
    """
    with _as_file(file) as table, _child("read", stdin=table) as child:
        seen = _Limited(cast(IO[bytes], child.stdout), max_bytes)
        yield from read_lines(buffered(seen))
        _finish(child)


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
    with suppress(AttributeError, OSError):
        # A spooled upload writes itself to disk when it is asked for its number.
        number = file.fileno()  # type: ignore[attr-defined]
        if number >= 0:
            file.seek(0)  # type: ignore[attr-defined]
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
        log.warning("the process that reads Parquet ended with %s: %s", child.wait(), said[-2000:])
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
