"""Delivery: a run's spool to the server, from the position that the server acknowledged.

One path for a run that is recorded now, one that was recorded without a network, and `chesboard
sync`: read whole lines from the position on, send them, write the new position. What is sent twice
is stored once, so a crash between sending and writing costs nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from chesboard.client.spool import Entry, Position, entries, read_position, write_position
from chesboard.client.wire import RefusedError, Wire

BATCH_BYTES = 1_000_000
BATCH_RECORDS = 1_000
BATCHED = ("record", "message")
"""Entries of which one request sends many."""
TOO_LARGE = 413
HEARTBEAT_SECONDS = 30.0


class Delivery:
    """Sends what one run's spool holds. Not thread-safe; one at a time a run (`claimed`)."""

    def __init__(self, folder: Path, wire: Wire) -> None:
        self._folder, self._wire = folder, wire
        self._at = read_position(folder, wire.url)
        self._most = BATCH_RECORDS
        self._last_word = time.monotonic()
        self.cancel_requested = False

    @property
    def at(self) -> Position:
        return self._at

    def send_some(self) -> bool:
        """One request: the next records and messages, or the next other entry. False: nothing is
        waiting.

        Raises:
            UnreachableError: not now; nothing is lost.
            RefusedError: the server does not take it.
        """
        batch: list[Entry] = []
        size = 0
        for entry in entries(self._folder, self._at):
            is_batched = entry.name in BATCHED
            if not is_batched and not batch:
                self._other(entry)
                return True
            is_full = size + entry.size > BATCH_BYTES or len(batch) == self._most
            if batch and (is_full or not is_batched):
                break
            batch.append(entry)
            size += entry.size
        if batch:
            self._records(batch)
        return bool(batch)

    def heartbeat(self) -> None:
        """Say that the run goes on, where nothing was said for a while."""
        silent = time.monotonic() - self._last_word
        if self._at.attempt is not None and not self._at.ended and silent >= HEARTBEAT_SECONDS:
            self._told(self._wire.send(self._run_id, self._attempt, []).cancel_requested)

    # --- one entry ------------------------------------------------------------------------------

    def _other(self, entry: Entry) -> None:
        at = self._at
        match entry.name:
            case "run":
                made = self._wire.create(entry.value)
                at = replace(
                    at, run_id=made["id"], attempt=made["attempt"], url=made.get("url"), ended=False
                )
            case "attempt":
                attempt = self._wire.begin_attempt(self._run_id, entry.value["resumed_from_step"])
                at = replace(at, attempt=attempt, ended=False)
            case "finish":
                self._wire.finish(self._run_id, self._attempt, entry.value)
                at = replace(at, ended=True)
        self._move(replace(at, file=entry.end.file, offset=entry.end.offset))

    def _records(self, batch: list[Entry]) -> None:
        records, messages = ([one.value for one in batch if one.name == name] for name in BATCHED)
        try:
            answer = self._wire.send(self._run_id, self._attempt, records, messages)
        except RefusedError as error:
            if error.status != TOO_LARGE or len(batch) == 1:
                raise
            self._most = len(batch) // 2
            return
        self._most = BATCH_RECORDS
        end = batch[-1].end
        self._told(answer.cancel_requested)
        self._move(replace(self._at, file=end.file, offset=end.offset))

    def _told(self, cancel_requested: bool) -> None:
        self.cancel_requested = cancel_requested
        self._last_word = time.monotonic()

    def _move(self, at: Position) -> None:
        self._last_word = time.monotonic()
        self._at = at
        write_position(self._folder, at)

    @property
    def _run_id(self) -> int:
        return self._known(self._at.run_id)

    @property
    def _attempt(self) -> int:
        return self._known(self._at.attempt)

    def _known(self, value: int | None) -> int:
        if value is None:
            raise RefusedError(0, f"The first line of {self._folder} does not say which run it is.")
        return value


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process is the one that sends the run; yields False where another does."""
    try:
        import fcntl
    except ImportError:  # Windows: two senders do no harm, what is sent twice is stored once
        yield True
        return
    with (folder / "sender.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
