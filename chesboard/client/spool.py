"""The spool: a run's records on disk, from which they are sent.

A run has a folder, named by its key. Each process that records the run writes a file of its own
there, 00001.ndjson and so on, one JSON object a line, of one entry:

    {"run": …}      what creates the run; the first line of every file
    {"attempt": …}  the run goes on from a checkpoint
    {"record": …}   what was measured
    {"message": …}  what those who look at the run's page should know
    {"finish": …}   the run ended

A process writes a line by one call with O_APPEND, so a file that is read while it grows has whole
lines, and at most its last one is torn. `Position` says how far they were sent.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

SENT = "sent.json"
FSYNC_SECONDS = 1.0
"""A crash of the machine loses the records of so long at most; one of the process loses none."""


class Spool:
    """The file that this process writes. Methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Begin a new file in the run's folder, which is made where there is none.

        Raises:
            OSError: it cannot be written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = threading.Lock()
        self._file, self.path = _new_file(folder)
        self._torn = False
        self._synced, self._dirty = time.monotonic(), False

    def append(self, entry: Mapping[str, Any]) -> int:
        """Write a line; returns its length in bytes.

        Raises:
            OSError: the disk is full, or the like. The line is lost, and none after it.
        """
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False, default=str).encode() + b"\n"
        with self._lock:
            # After a line that is torn the next one must begin anew.
            written = os.write(self._file, b"\n" + line if self._torn else line)
            whole = len(line) + self._torn
            self._torn, self._dirty = written < whole, True
        if written < whole:
            raise OSError(f"only {written} of {whole} bytes could be written to {self.path}")
        return written

    def sync(self, *, least_seconds: float = 0.0) -> None:
        """Bring what was written onto the disk, unless that was done in the last seconds."""
        with self._lock:
            now = time.monotonic()
            if not self._dirty or now - self._synced < least_seconds:
                return
            self._synced, self._dirty = now, False
        os.fsync(self._file)


def _new_file(folder: Path) -> tuple[int, Path]:
    taken = files(folder)
    number = int(taken[-1].stem) + 1 if taken else 1
    while True:
        path = folder / f"{number:05}.ndjson"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            return os.open(path, flags, 0o644), path
        except FileExistsError:
            number += 1  # another process was quicker


def files(folder: Path) -> list[Path]:
    """The files of a run's folder, in their order."""
    return sorted(path for path in folder.glob("*.ndjson") if path.stem.isdigit())


def runs(folder: Path) -> list[Path]:
    """The folders of runs at or below a folder, in the order of their names."""
    found = {path.parent for path in folder.rglob("*.ndjson") if path.stem.isdigit()}
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run was sent: all before byte `offset` of `file`, as `attempt` of run `run_id`."""

    file: str = ""
    """Name of the file; empty: nothing was sent."""
    offset: int = 0
    run_id: int | None = None
    attempt: int | None = None
    url: str | None = None
    """Of the run's page."""
    server: str | None = None
    """Address of the server that it was sent to."""
    ended: bool = False
    """Whether the server knows that the run ended."""


def read_position(folder: Path, server: str) -> Position:
    """Where sending to a server goes on: from the beginning if it was another's or is unknown."""
    try:
        read = json.loads((folder / SENT).read_text("utf-8"))
        position = Position(**read)
    except (OSError, ValueError, TypeError):
        return Position(server=server)
    return position if position.server == server else Position(server=server)


def write_position(folder: Path, position: Position) -> None:
    temporary = folder / f".{SENT}.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(position)), "utf-8")
    temporary.replace(folder / SENT)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line: its entry, and the position after it."""

    name: str
    value: Any
    end: Position
    size: int


def entries(folder: Path, start: Position) -> Iterator[Entry]:
    """The whole lines from a position on; those that are no JSON are passed over.

    A torn line is left where it is: its file may still be written.
    """
    for path in files(folder):
        if path.name < start.file:
            continue
        offset = start.offset if path.name == start.file else 0
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                end = replace(start, file=path.name, offset=offset)
                try:
                    [(name, value)] = json.loads(line).items()
                except (ValueError, AttributeError):
                    continue  # torn by a full disk
                yield Entry(name, value, end, len(line))
