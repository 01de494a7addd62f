"""Downloads that are made at the database's pace and sent at the client's.

A thread writes the download to an unnamed temporary file, and the response reads behind it. So a
client that reads slowly, or stops, holds a file and no transaction.
"""

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from types import TracebackType
from typing import Self

from anyio import to_thread

from app.core.temporary import temporary_files

WRITERS = 4
"""Downloads that are made at a time, each on one connection to the database. Others wait for as
long as it takes to make these, however slowly they are read."""
PIECE_BYTES = 1 << 18
FIRST_SECONDS = 5.0

REST_SECONDS = 0.0003
MOST_RESTS = 30
"""How long a download waits for those who compute at the same moment, in times of what it computed
itself: it goes on, at a few percent of a core, where they never stop."""


@lru_cache
def _writers() -> ThreadPoolExecutor:
    # Not the threads that answer requests: those would wait for exports.
    return ThreadPoolExecutor(WRITERS, thread_name_prefix="export")


class Spool:
    """The bytes of a generator, read while they are still made. Belongs to one event loop."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._written = 0
        self._sent = threading.Event()
        self._stopped = threading.Event()
        self._more = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        """Return once there is something to read.

        Raises:
            UnavailableError: the folder for temporary files is full or cannot be written.
            Exception: whatever the generator raised before its first piece.
        """
        with temporary_files():
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - see __aexit__
        self._writing: Future[None] = _writers().submit(self._write)
        self._writing.add_done_callback(lambda _: self._notify())
        try:
            await self._has_beyond(0)
        except BaseException:
            self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        self._sent.set()
        self._writing.cancel()
        # A thread that is still at work sees it at its next piece, for which nobody waits.
        self._writing.add_done_callback(lambda _: self._file.close())

    async def read(self) -> AsyncIterator[bytes]:
        """Raises:
        Exception: whatever the generator raised.
        """
        at = 0
        while await self._has_beyond(at):
            piece = await to_thread.run_sync(os.pread, self._file.fileno(), PIECE_BYTES, at)
            at += len(piece)
            yield piece
            self._sent.set()

    async def _has_beyond(self, at: int) -> bool:
        """Whether there is more than `at` bytes, once that is known."""
        while self._written <= at:
            self._more.clear()
            if self._writing.done():
                self._writing.result()
                return self._written > at
            await self._more.wait()
        return True

    def _write(self) -> None:
        # Closed in this thread, and with it the transaction.
        with closing(self._pieces) as pieces:  # type: ignore[type-var]
            computed = time.thread_time()
            for piece in pieces:
                _give_way(time.thread_time() - computed)
                computed = time.thread_time()
                if self._stopped.is_set():
                    return
                if not piece:
                    continue
                left = memoryview(piece)
                with temporary_files():
                    while left:
                        left = left[self._file.write(left) :]
                self._written += len(piece)
                self._notify()
                # The download is recorded when its first piece is sent, and what comes then may
                # be the record. Not for as long as a client likes, which may not take even that.
                self._sent.wait(FIRST_SECONDS)

    def _notify(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._more.set)


def _give_way(computed: float) -> None:
    """Let others go first, who are to be answered at once, after so many seconds of computing.

    One thread of Python computes at a time: where a short rest takes long, another one did.
    """
    now = time.perf_counter()
    until = now + MOST_RESTS * computed
    while now < until:
        rested, now = now, _rested()
        if now - rested < 2 * REST_SECONDS:
            return


def _rested() -> float:
    time.sleep(REST_SECONDS)
    return time.perf_counter()
