"""Signs of life of the processes that train one model together, and the worker's watch over them.

A process that is frozen neither ends nor fails, and all others wait for it. Each process touches
two files: one every second, by a thread of its own, so that a process that stands still is seen;
and one as its work goes on, so that processes are seen that run and wait for each other in vain.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from chesboard.reporting import Control

BEAT_SECONDS = 1.0


class Pulse:
    """The signs of life of this process."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._alive, self._progress = _files(folder, rank)
        self._busy = 0
        self._marked = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        global _own
        _own = self
        self._thread.start()

    def end(self) -> None:
        """The process is done, and may be long in ending."""
        self._ended.set()
        self._thread.join()
        self._alive.unlink(missing_ok=True)

    def mark(self) -> None:
        """The work goes on. Cheap enough for every forward pass."""
        if time.monotonic() - self._marked >= BEAT_SECONDS:
            self._marked = time.monotonic()
            _touch(self._progress)

    @contextmanager
    def busy(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    def _run(self) -> None:
        while not self._ended.is_set():
            _touch(self._alive)
            if self._busy:
                _touch(self._progress)
            self._ended.wait(BEAT_SECONDS)


_own: Pulse | None = None


def busy() -> AbstractContextManager[None]:
    """What is done meanwhile counts as progress, though no forward pass comes: waiting for the
    database, or for a large file to be written. In a process that nobody watches it is nothing."""
    return nullcontext() if _own is None else _own.busy()


class Marking:
    """A Control that marks each check as a sign that the work goes on."""

    def __init__(self, control: Control, pulse: Pulse) -> None:
        self._control, self._pulse = control, pulse

    def check(self) -> None:
        self._pulse.mark()
        self._control.check()


class Watch:
    """Sees by the signs of life of a run's processes whether they are stuck."""

    def __init__(self, folder: Path, ranks: range, limit: float) -> None:
        """ranks: of the processes of this worker. limit: seconds without a sign of life.

        Processes of other workers wait for the first as long as it reads and tokenizes: only the
        worker that has it sees whether any goes on.
        """
        self._limit, self._ranks = limit, ranks
        files = [_files(folder, rank) for rank in ranks]
        self._alive = [_Silence([alive]) for alive, _ in files]
        has_first = 0 in ranks
        self._progress = _Silence([progress for _, progress in files] if has_first else [])
        self._looked = time.monotonic()

    def look(self) -> str | None:
        """What is wrong, in words; None where nothing is. To be called often: time that this
        process itself stood still does not count."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, BEAT_SECONDS), now
        silences = [one.after(passed) for one in self._alive]
        frozen = [
            str(rank)
            for rank, silence in zip(self._ranks, silences, strict=True)
            if silence > self._limit
        ]
        if frozen:
            return f"no sign of life for {self._limit:g} s of process {', '.join(frozen)}"
        if self._progress.after(passed) > self._limit:
            return f"no progress for {self._limit:g} s in any process"
        return None


class _Silence:
    """How long none of these files was touched, from when the first of them was made."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._seen: list[int] = []
        self._seconds = 0.0

    def after(self, passed: float) -> float:
        """In seconds, `passed` of which are new."""
        seen = [file.stat().st_mtime_ns for file in self._files if file.exists()]
        self._seconds = self._seconds + passed if seen and seen == self._seen else 0.0
        self._seen = seen
        return self._seconds


def _touch(file: Path) -> None:
    with suppress(OSError):  # such as a full disk, which the work itself will tell of
        file.touch()


def _files(folder: Path, rank: int) -> tuple[Path, Path]:
    return folder / f"alive-{rank}", folder / f"progress-{rank}"
