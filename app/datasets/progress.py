"""How far an upload's rows are, for whoever waits for it, and a way to call it off.

Kept in this process, which also does the work: what is lost with it is the work itself.
"""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from app.core.errors import ConflictError, NotFoundError

MAX_KEPT = 200
Phase = Literal["reading", "checking", "storing", "done", "failed"]


class CalledOffError(ConflictError):
    """Whoever uploads it has called the upload off."""


@dataclass(slots=True)
class Progress:
    bytes_total: int = 0
    bytes_done: int = 0
    pairs: int = 0
    rejected: int = 0
    phase: Phase = "reading"
    started: float = field(default_factory=time.monotonic)
    is_called_off: bool = False

    def check(self) -> None:
        """Raises CalledOffError once it is called off: the transaction is then undone."""
        if self.is_called_off:
            raise CalledOffError("The upload was called off. Nothing was stored.")

    def eta_seconds(self) -> float | None:
        """By the share of the file that is read; None before that says anything."""
        if self.phase != "reading" or not self.bytes_total or self.bytes_done < 1 << 20:
            return None
        share = self.bytes_done / self.bytes_total
        return (time.monotonic() - self.started) * (1 - share) / share


_known: "OrderedDict[str, Progress]" = OrderedDict()
_lock = threading.Lock()


def begin(key: str | None) -> Progress:
    """A new account of an upload, found under a key that its sender chose."""
    progress = Progress()
    if key:
        with _lock:
            _known[key] = progress
            while len(_known) > MAX_KEPT:
                _known.popitem(last=False)
    return progress


def find(key: str) -> Progress:
    """Raises NotFoundError where no upload goes by this key, or not yet."""
    with _lock:
        if progress := _known.get(key):
            return progress
    raise NotFoundError("There is no such upload in this server's memory.")
