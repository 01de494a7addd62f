"""Progress of uploads, by a key that the client chose, and their cancellation.

Kept in the memory of the process that stores the upload: both are lost together.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from app.core.errors import ConflictError, NotFoundError

MAX_KEPT = 200
Phase = Literal["downloading", "reading", "checking", "storing", "done", "failed"]


class UploadCancelledError(ConflictError):
    """The client cancelled the upload."""


@dataclass(slots=True)
class Progress:
    bytes_total: int = 0
    bytes_done: int = 0
    pairs: int = 0
    rejected: int = 0
    phase: Phase = "reading"
    started: float = field(default_factory=time.monotonic)
    is_cancelled: bool = False

    def begin(self, phase: Phase, bytes_total: int) -> None:
        """Count the bytes of a phase from zero."""
        self.phase, self.bytes_total, self.bytes_done = phase, bytes_total, 0
        self.started = time.monotonic()

    @contextmanager
    def ending(self) -> Iterator["Progress"]:
        """Afterwards its phase says whether it is done or has failed."""
        try:
            yield self
        except BaseException:
            self.phase = "failed"
            raise
        self.phase = "done"

    def check(self) -> None:
        """Raises UploadCancelledError once it is cancelled; the transaction is rolled back."""
        if self.is_cancelled:
            raise UploadCancelledError("The upload was cancelled. Nothing was stored.")

    def eta_seconds(self) -> float | None:
        """Estimated from the share of the bytes that are done; None until 1 MiB is."""
        if self.phase not in ("downloading", "reading") or not self.bytes_total:
            return None
        if self.bytes_done < 1 << 20:
            return None
        share = self.bytes_done / self.bytes_total
        return (time.monotonic() - self.started) * (1 - share) / share


_known: "OrderedDict[str, Progress]" = OrderedDict()
_lock = threading.Lock()


def begin(key: str | None) -> Progress:
    """The progress of a new upload, registered under the client's key if there is one."""
    progress = Progress()
    if key:
        with _lock:
            _known[key] = progress
            while len(_known) > MAX_KEPT:
                _known.popitem(last=False)
    return progress


def find(key: str) -> Progress:
    """Raises:
    NotFoundError: no upload has this key, or its bytes have not been received yet.
    """
    with _lock:
        if progress := _known.get(key):
            return progress
    raise NotFoundError("This server process knows no upload with this key.")
