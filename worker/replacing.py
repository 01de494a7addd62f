"""Replaces the process of a worker that does not stop a run that must stop.

What comes with a model is read by libraries, and a call of theirs can take as long as it likes: on
a disk that does not answer, or in a tokenizer's regular expression. No exception reaches the main
thread in it. So another thread starts the worker's program anew in the same process: whoever
supervises it sees nothing of that.
"""

import faulthandler
import logging
import os
import resource
import signal
import sys
import threading

HELD_SECONDS = 120.0
"""For which a call may keep all threads from running before the process ends. Whoever supervises
the worker starts it again."""
_WATCH_SECONDS = 1.0

log = logging.getLogger(__name__)

replaceable = threading.Event()
"""Set where this process is a worker and nothing else."""

_memory = resource.getrlimit(resource.RLIMIT_AS)
"""As it was when the process began; worker.template_bounds lowers it for a while."""


def replace_process() -> None:
    """Start the program of this process anew, with its arguments, in its place. From any thread,
    and whatever the others do. Returns only where the process is not replaceable."""
    if not replaceable.is_set():
        return
    log.warning("the worker does not get free: it starts anew")
    # What a new program inherits, and would be killed by.
    signal.setitimer(signal.ITIMER_REAL, 0)
    resource.setrlimit(resource.RLIMIT_AS, _memory)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own


def allow_replacement() -> None:
    """This process is a worker: it is replaced when a run holds it, and ends when a call lets none
    of its threads run for HELD_SECONDS."""
    replaceable.set()
    threading.Thread(target=_watch, name="watch", daemon=True).start()


def _watch() -> None:
    """Put off the end of the process, again and again, for as long as this thread gets to run."""
    while True:
        faulthandler.dump_traceback_later(HELD_SECONDS, exit=True)
        threading.Event().wait(_WATCH_SECONDS)
