"""Bounds of time and memory for chat templates, which come with models and are programs.

A template can loop for ever or build a text of many gigabytes, and its worker would be held: it
could not be cancelled, and the runs behind it would wait. Templates run as Python code in the main
thread, so a timer's signal reaches them between two of its operations.
"""

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from chesboard.rendering import bounded_by

SECONDS = 20.0
"""For one prompt. The templates of known models take milliseconds."""
BYTES = 1 << 30
"""Of memory, beyond what the worker has already."""
CHARACTERS = 50_000_000
CHECK_SECONDS = 0.25
"""Between two looks at whether the run must stop."""


class TemplateBoundsError(ValueError):
    """A chat template went beyond a bound."""


class _Stopped(BaseException):
    """Carries an error through code that catches every Exception of a template as its refusal."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def bounded_templates(check: Callable[[], None]) -> Iterator[None]:
    """Chat templates that are run meanwhile are ended when they go beyond a bound, or when `check`
    raises.

    In the main thread alone: a signal reaches no other.

    Raises:
        TemplateBoundsError: a template took too long, too much memory, or rendered too much.
        What `check` raises.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        with bounded_by(lambda run: _run(run, check)):
            yield
    except _Stopped as stopped:
        raise stopped.error from None


def _run(run: Callable[[], str], check: Callable[[], None]) -> str:
    try:
        with _memory(), _timer(check):
            rendered = run()
    except MemoryError:
        raise _stop(f"needs more than {BYTES >> 20:,} MiB of memory for one prompt") from None
    if len(rendered) > CHARACTERS:
        raise _stop(f"renders a prompt of more than {CHARACTERS:,} characters")
    return rendered


def _stop(what: str) -> _Stopped:
    return _Stopped(
        TemplateBoundsError(
            f"The model's chat template {what}. Give another one as chat_template, or choose "
            "another model."
        )
    )


@contextmanager
def _timer(check: Callable[[], None]) -> Iterator[None]:
    began = time.monotonic()
    is_over = False

    def look(_number: int, _frame: FrameType | None) -> None:
        if is_over:
            return
        try:
            check()
        except Exception as error:
            raise _Stopped(error) from None
        if time.monotonic() - began > SECONDS:
            raise _stop(f"takes more than {SECONDS:g} s for one prompt")

    before: Any = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, CHECK_SECONDS, CHECK_SECONDS)
    try:
        try:
            yield
        finally:
            is_over = True
    finally:  # also where the signal came just before that
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _memory() -> Iterator[None]:
    """The address space may grow by BYTES: what is asked for beyond is a MemoryError."""
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bounded = pages * os.sysconf("SC_PAGE_SIZE") + BYTES
    if soft not in (resource.RLIM_INFINITY, -1):
        bounded = min(bounded, soft)
    resource.setrlimit(resource.RLIMIT_AS, (bounded, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
