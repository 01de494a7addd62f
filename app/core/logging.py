"""Logging of all processes: lines of text for people, or JSON objects for a log collector.

Each line carries the id of the run it concerns, and in the web process the id of the request, so
that "everything about run 12" is one filter. User-supplied text cannot forge lines: JSON escapes
line breaks, and the text format replaces them.
"""

import json
import logging
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from app.core.rate_limit import TokenBuckets
from app.core.settings import Settings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
run_id: ContextVar[int | None] = ContextVar("run_id", default=None)

_process_run: int | None = None
"""The run that this process executes: a worker's threads do not inherit its context variables."""

REPEATS = 50
REPEAT_SECONDS = 5.0
"""How many warnings of one place in the code there may be at once, and how often one comes then."""

# Loggers whose INFO lines repeat others or are noise.
QUIET = (
    "alembic",
    "httpx",
    "httpcore",
    "kombu",
    "amqp",
    "celery.app.trace",
    "celery.worker.strategy",
)


@contextmanager
def working_on(run: int) -> Iterator[None]:
    """Tag every line of this process with that run, whatever thread it comes from."""
    global _process_run
    _process_run = run
    try:
        yield
    finally:
        _process_run = None


class _Context(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.run_id = run_id.get() or _process_run
        record.request_id = request_id.get()
        return True


class _Repeated(logging.Filter):
    """Leaves out what one place in the code says again and again.

    What strangers send must not fill the disk with lines that say the same: a broken request, a
    connection too many. A place has a burst of lines, and then one now and again, with the number
    of those that were left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buckets = TokenBuckets(1 / REPEAT_SECONDS, REPEATS)
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        place = f"{record.name} {record.pathname}:{record.lineno}"
        if self._buckets.take(place):
            self._left_out[place] += 1
            return False
        if left_out := self._left_out.pop(place, 0):
            record.msg = f"{record.getMessage()} ({left_out:,} more like it were left out)"
            record.args = None
        return True


class JsonLines(logging.Formatter):
    """{"time", "level", "logger", "message", "process", "run_id"?, "request_id"?, "error"?}."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": self._process,
            "message": record.getMessage(),
        }
        for name in ("run_id", "request_id"):
            if (value := getattr(record, name, None)) is not None:
                line[name] = value
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = {
                "type": type(record.exc_info[1]).__name__,
                "traceback": "".join(traceback.format_exception(record.exc_info[1])),
            }
        return json.dumps(line, default=str)


class Lines(logging.Formatter):
    """`12:00:01 web WARNING app.broker [run 3]: message`, and tracebacks below it."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        run = getattr(record, "run_id", None)
        where = f" [run {run}]" if run is not None else ""
        message = record.getMessage().replace("\r", " ").replace("\n", " ⏎ ")
        level = "" if record.levelno == logging.INFO else f" {record.levelname}"
        moment = datetime.fromtimestamp(record.created).astimezone()
        line = f"{moment:%H:%M:%S} {self._process}{level} {record.name}{where}: {message}"
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        return line


def configure(settings: Settings, process: str, stream: TextIO | None = None) -> None:
    """Send all of this process's logging to one stream (default: stderr), in the format set."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_Context())
    handler.addFilter(_Repeated())
    is_json = settings.log_format == "json"
    handler.setFormatter(JsonLines(process) if is_json else Lines(process))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "celery"):
        logger = logging.getLogger(name)
        logger.handlers = []
        # One line per request is for debugging.
        logger.propagate = name != "uvicorn.access" or settings.log_level == "DEBUG"
    if settings.log_level != "DEBUG":
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
