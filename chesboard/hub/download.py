"""Waiting for the hub, and downloads of a split's files into one temporary file: resumed, verified
and stoppable.

A file counts only if its size and checksum are those that the hub lists. What a broken connection
has left is continued from there; after `ATTEMPTS` tries without a byte the download has failed.
"""

import hashlib
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from chesboard.hub.errors import (
    TRANSIENT_STATUSES,
    TRANSPORT_ERRORS,
    HubError,
    HubUnreachableError,
    explain,
    wait_seconds,
)
from chesboard.hub.repository import TIMEOUT, Repository, file_address, token
from chesboard.hub.splits import HubFile, HubSplit

log = logging.getLogger(__name__)

ATTEMPTS = 5
BACKOFF_SECONDS = 0.5
"""Before the second attempt; doubled for each later one."""
MAX_WAIT_SECONDS = 30.0
"""A rate limit that lasts longer ends the download."""
WATCH_SECONDS = 0.2
"""Between two reports of the progress, and two checks whether to stop."""
SLOW_SECONDS = 120.0
LEAST_BYTES = 4096
"""What brings fewer bytes in SLOW_SECONDS has failed: the timeout of a connection does not end an
answer of a byte a second. A look-up, which counts none, has SLOW_SECONDS in all."""
MOST_WAITING = 16
"""Threads that may wait for the hub. Some have no caller any more, and end with their answer."""
COPY_BYTES = 1 << 20

_waiting = threading.BoundedSemaphore(MOST_WAITING)

T = TypeVar("T")
OnBytes = Callable[[int], None]
"""Called in the caller's thread with the bytes that have arrived. What it raises stops the
download, also while the network stalls."""


class StoppedError(Exception):
    """Ends the thread of a download whose caller has left."""


class Transfer:
    """What a download's thread and its caller share."""

    def __init__(self) -> None:
        self.bytes = 0
        self.stopped = threading.Event()

    def check(self) -> None:
        if self.stopped.is_set():
            raise StoppedError


def run_watched(work: Callable[[Transfer], T], on_bytes: OnBytes) -> T:
    """Do the work in a thread, so that the caller can leave although no data arrive.

    The thread then ends at its next chunk, or when its connection times out.

    Raises:
        HubUnreachableError: fewer than LEAST_BYTES came in SLOW_SECONDS, or too many threads wait
            for the hub already.
        What `work` or `on_bytes` raises.
    """
    transfer = Transfer()
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work(transfer))
        except BaseException as error:
            done.set_exception(error)
        finally:
            _waiting.release()

    if not _waiting.acquire(blocking=False):
        raise HubUnreachableError(
            f"The hub does not answer: {MOST_WAITING} earlier requests still wait for it. Try "
            "again in a few minutes."
        )
    threading.Thread(target=run, name="hub", daemon=True).start()
    try:
        counted, since = 0, time.monotonic()
        while not done.done():
            on_bytes(transfer.bytes)
            if abs(transfer.bytes - counted) >= LEAST_BYTES:  # fewer: begun anew
                counted, since = transfer.bytes, time.monotonic()
            elif time.monotonic() - since > SLOW_SECONDS:
                raise HubUnreachableError(
                    f"The hub does not answer: {transfer.bytes - counted:,} bytes came in the last "
                    f"{SLOW_SECONDS:.0f} seconds. Try again in a few minutes."
                )
            wait([done], timeout=WATCH_SECONDS)
    except BaseException:
        transfer.stopped.set()
        raise
    result = done.result()
    on_bytes(transfer.bytes)
    return result


@dataclass(frozen=True, slots=True)
class Downloaded:
    """The files of a split, one behind the other in `file`."""

    files: tuple[HubFile, ...]
    file: IO[bytes]

    @property
    def sha256(self) -> str:
        """Of all bytes in their order: of a single file, the file's."""
        if len(self.files) == 1 and (listed := self.files[0].sha256):
            return listed  # by which its bytes were verified
        self.file.seek(0)
        return hashlib.file_digest(self.file, hashlib.sha256).hexdigest()  # type: ignore[arg-type]

    def each(self) -> Iterator[tuple[HubFile, IO[bytes]]]:
        """Each file at its start, in a file of its own, as a reader of Parquet needs it."""
        if len(self.files) == 1:
            self.file.seek(0)
            yield self.files[0], self.file
            return
        start = 0
        for listed in self.files:
            with tempfile.TemporaryFile() as own:
                self.file.seek(start)
                _copy(self.file, own, listed.size)
                own.seek(0)
                yield listed, own
            start += listed.size


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    while size and (data := source.read(min(size, COPY_BYTES))):
        target.write(data)
        size -= len(data)


@contextmanager
def downloaded(repository: Repository, split: HubSplit, on_bytes: OnBytes) -> Iterator[Downloaded]:
    """The files of a split, in a temporary file that is gone afterwards, whatever happens.

    Raises:
        HubError: not accessible, unreachable, other bytes than the hub lists, or no room for them.
    """
    _check_room(split)

    def fetch(transfer: Transfer) -> IO[bytes]:
        # The thread's own: its caller may have left before it writes for the last time.
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the caller
        try:
            for listed in split.files:
                _FileDownload(repository, listed, file, transfer).run()
        except BaseException:
            file.close()
            raise
        return file

    try:
        file = run_watched(fetch, on_bytes)
    except OSError as error:
        raise HubError(f"The download cannot be kept on this server: {error.strerror}.") from error
    with file:
        yield Downloaded(split.files, file)


@contextmanager
def beginning(
    repository: Repository, listed: HubFile, size: int, on_bytes: OnBytes
) -> Iterator[IO[bytes]]:
    """The first `size` bytes of a file, or all of a shorter one, in a temporary file.

    Raises:
        HubError: as `downloaded`; the checksum of a part is not known.
    """
    wanted = listed if listed.size <= size else HubFile(listed.path, size)
    with downloaded(repository, HubSplit("", "", (wanted,)), on_bytes) as found:
        found.file.seek(0)
        yield found.file


def _check_room(split: HubSplit) -> None:
    copied = max(file.size for file in split.files) if len(split.files) > 1 else 0
    free = _free_bytes()
    if split.size + copied > free:
        raise HubError(
            f"The download needs {split.size + copied:,} bytes, but the folder for temporary files "
            f"of this server has {free:,} free. Make room, or set TMPDIR to another disk."
        )


def _free_bytes() -> int:
    return shutil.disk_usage(tempfile.gettempdir()).free


class _DamagedError(Exception):
    """Other bytes than the hub lists; the message says how they differ."""


class _FileDownload:
    """One file of a repository, written behind what is in `target` already."""

    def __init__(
        self, repository: Repository, listed: HubFile, target: IO[bytes], transfer: Transfer
    ) -> None:
        self._repository, self._listed = repository, listed
        self._target, self._transfer = target, transfer
        self._start = target.tell()
        self._address = file_address(repository.name, repository.revision, listed.path)
        self._got = 0
        # The hub gives the checksum of every file, so one without is the beginning of a file.
        self._is_part = listed.sha256 is None and not listed.blob_id

    def run(self) -> None:
        """Raises:
        HubError: it did not arrive whole after several attempts, or cannot be had.
        """
        failures = 0
        while True:
            before = self._got
            try:
                self._receive()
                self._verify()
                return
            except (_DamagedError, *TRANSPORT_ERRORS) as error:
                failures = 1 if self._got - before >= COPY_BYTES else failures + 1
                delay = self._delay(error, failures)
            log.info("the download of %s is tried again in %.1f s", self._listed.path, delay)
            self._transfer.stopped.wait(delay)
            self._transfer.check()

    def _delay(self, error: Exception, failures: int) -> float:
        """Seconds until the next attempt. Raises a HubError where another is of no use."""
        delay = BACKOFF_SECONDS * 2.0 ** (failures - 1)
        if isinstance(error, _DamagedError):
            if failures >= ATTEMPTS:
                raise HubUnreachableError(
                    f"The file “{self._listed.path}” does not arrive as the hub lists it: {error}. "
                    "Nothing was stored; try again later."
                ) from None
            return delay
        explained = explain(error, self._repository.name, self._repository.revision)
        if not isinstance(error, HfHubHTTPError):
            if failures >= ATTEMPTS or isinstance(error, OfflineModeIsEnabled):
                raise explained from None
            return delay
        if error.response.status_code not in TRANSIENT_STATUSES or failures >= ATTEMPTS:
            raise explained from None
        if error.response.status_code == 429:
            delay = wait_seconds(error.response.headers)
        if delay > MAX_WAIT_SECONDS:
            raise explained from None
        return delay

    def _receive(self) -> None:
        """Go on where the last attempt ended."""
        # As it is: what a proxy compresses has another size than the hub lists.
        headers = {**build_hf_headers(token=token()), "Accept-Encoding": "identity"}
        if self._got or self._is_part:
            headers["Range"] = f"bytes={self._got}-{self._listed.size - 1}"
        with get_session().stream(
            "GET", self._address, headers=headers, timeout=TIMEOUT
        ) as response:
            hf_raise_for_status(response)
            if self._got and not _continues(response, self._got):
                self._restart()
            for chunk in response.iter_raw():
                self._transfer.check()
                if self._is_part:  # a server may send all of the file
                    chunk = chunk[: self._listed.size - self._got]
                self._target.write(chunk)
                self._got += len(chunk)
                self._transfer.bytes += len(chunk)
                is_enough = self._is_part and self._got == self._listed.size
                if is_enough or self._got > self._listed.size:
                    break

    def _verify(self) -> None:
        got, size = self._got, self._listed.size
        if got < size:
            raise _DamagedError(f"{got:,} of {size:,} bytes")
        message = "more bytes than listed" if got > size else "its checksum differs"
        if got > size or not self._has_listed_checksum():
            self._restart()
            raise _DamagedError(message)

    def _has_listed_checksum(self) -> bool:
        listed = self._listed
        if listed.sha256 is not None:
            digest, expected = hashlib.sha256(), listed.sha256
        elif listed.blob_id:
            digest, expected = hashlib.sha1(usedforsecurity=False), listed.blob_id
            digest.update(b"blob %d\0" % listed.size)  # git's id of a file
        else:
            return True
        self._target.seek(self._start)
        while data := self._target.read(COPY_BYTES):
            digest.update(data)
        return digest.hexdigest() == expected

    def _restart(self) -> None:
        self._transfer.bytes -= self._got
        self._got = 0
        self._target.seek(self._start)
        self._target.truncate()


def _continues(response: Any, got: int) -> bool:
    came = str(response.headers.get("content-range", ""))
    return bool(response.status_code == 206) and came.startswith(f"bytes {got}-")
