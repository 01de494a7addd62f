"""The sender: a daemon thread that brings a spool onto the disk and to the server.

The training thread never waits for it. Its memory is constant: what waits is on the disk.
"""

import logging
import threading
import time

from chesboard.client.delivery import BATCH_BYTES, Delivery, claimed
from chesboard.client.environment import Destination
from chesboard.client.pace import Backoff
from chesboard.client.spool import FSYNC_SECONDS, Spool
from chesboard.client.wire import RefusedError, UnreachableError, Wire

log = logging.getLogger(__name__)

SECONDS_BETWEEN_BATCHES = 1.0
SECONDS_BETWEEN_CLAIMS = 5.0


class Sender:
    """Fsyncs the spool each second and, with an address, sends it. `start` begins."""

    def __init__(self, spool: Spool, destination: Destination) -> None:
        self._spool, self._destination = spool, destination
        self._changed = threading.Condition()
        self._waiting_bytes = 0
        self._closed = False
        self._told_unreachable = False
        self._thread = threading.Thread(target=self._run, name="chesboard-sender", daemon=True)
        self.page: str | None = None
        """The address of the run's page, once the server has told it."""
        self.cancel_requested = False
        self.stopped: str | None = None
        """Why nothing is sent any more."""
        self.drained = threading.Event()
        """Set while nothing waits to be sent."""

    def start(self) -> None:
        self._thread.start()

    def notify(self, size: int) -> None:
        """Bytes were added to the spool."""
        self.drained.clear()
        with self._changed:
            first = not self._waiting_bytes
            self._waiting_bytes += size
            if first or self._waiting_bytes >= BATCH_BYTES:
                self._changed.notify_all()

    def close(self, seconds: float) -> bool:
        """Wait until all is sent, or so long; whether it was. Then the thread ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._thread.is_alive():
            if self.drained.wait(0.05):
                break
        return self.drained.is_set() and self.stopped is None

    # --- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self._destination.url is None:
                self._only_sync()
                return
            # Another process that sends this run sends what this one writes, too.
            while not self._deliver_if_free(self._destination.url) and not self._closed:
                self._wait(SECONDS_BETWEEN_CLAIMS)
                self._sync()
        except Exception as error:
            self._stop(f"{type(error).__name__}: {error}")
        if not self._closed:
            self._only_sync()

    def _deliver_if_free(self, url: str) -> bool:
        with claimed(self._spool.folder) as mine:
            if mine:
                self._deliver(url)
            return mine

    def _only_sync(self) -> None:
        while not self._wait(FSYNC_SECONDS):
            self._sync()
        self._sync()

    def _deliver(self, url: str) -> None:
        wire = Wire(url, self._destination.token)
        delivery, backoff = Delivery(self._spool.folder, wire), Backoff()
        try:
            while True:
                try:
                    self._sync()
                    began = time.monotonic()
                    waits = delivery.send_some()
                    if not waits:
                        if self._nothing_waits():
                            return
                        delivery.heartbeat()
                    backoff.succeeded()
                    self._heard(delivery)
                    pause = SECONDS_BETWEEN_BATCHES - (time.monotonic() - began)
                except UnreachableError as error:
                    pause = backoff.failed(error.retry_after)
                    self._say_once(error)
                    self._pause(pause)
                    continue
                except RefusedError as error:
                    self._stop(error.with_advice)
                    return
                self._pace(waits, pause)
        finally:
            wire.close()

    def _nothing_waits(self) -> bool:
        """Whether the thread may end: all was sent, and no more will come."""
        with self._changed:
            if not self._waiting_bytes:
                self.drained.set()
            self._waiting_bytes = 0
            return self._closed and self.drained.is_set()

    def _pace(self, waits: bool, pause: float) -> None:
        """Between two batches: a second, unless a whole batch waits or the run has ended."""
        with self._changed:
            if waits and (self._closed or self._waiting_bytes >= BATCH_BYTES):
                return
            self._changed.wait_for(
                lambda: self._closed or self._waiting_bytes >= BATCH_BYTES, timeout=max(0.0, pause)
            )

    def _pause(self, seconds: float) -> None:
        """After a failure, however the spool grows; a run that ends tries once more at once."""
        end = time.monotonic() + seconds
        with self._changed:
            was_closed = self._closed
        while time.monotonic() < end:
            if self._wait(min(FSYNC_SECONDS, end - time.monotonic())) and not was_closed:
                return
            self._sync()
            if was_closed:
                time.sleep(min(0.2, max(0.0, end - time.monotonic())))

    def _wait(self, seconds: float) -> bool:
        """Whether the sender was closed, at the end of so many seconds or before."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout=max(0.0, seconds))

    def _sync(self) -> None:
        try:
            self._spool.sync(least_seconds=FSYNC_SECONDS)
        except OSError as error:
            log.warning("chesboard: %s", error)

    def _heard(self, delivery: Delivery) -> None:
        self._told_unreachable = False
        self.cancel_requested = delivery.cancel_requested
        if self.page is None and delivery.at.url is not None:
            self.page = delivery.at.url
            log.warning("chesboard: this run is at %s", self.page)

    def _say_once(self, error: UnreachableError) -> None:
        if not self._told_unreachable:
            self._told_unreachable = True
            log.warning(
                "chesboard: %s. The training goes on; its records wait in %s.",
                error,
                self._spool.folder,
            )

    def _stop(self, reason: str) -> None:
        self.stopped = reason
        log.warning(
            "chesboard: %s Nothing more is sent; the records stay in %s.",
            reason if reason.endswith((".", "!", "?")) else f"{reason}.",
            self._spool.folder,
        )
