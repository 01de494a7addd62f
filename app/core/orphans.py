"""Processes that end with the process that started them, however that ends (on Linux)."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def bind_to_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """A preexec function that makes the kernel signal the child when the parent dies.

    The kernel goes by the *thread* that starts the child: it must live as long.
    """
    if sys.platform != "linux":
        return None
    # Loaded in the parent: little is safe between fork and exec.
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before prctl took hold
            os._exit(1)

    return bind


def end_with_parent(death_signal: signal.Signals) -> None:
    """The same for this process itself, where another program starts it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
