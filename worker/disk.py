"""Disk-full errors: recognize them among all errors of writing a file, and say what to do."""

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No space on the device, quota exceeded, file larger than the limit."""

_NUMBER_IN_TEXT = re.compile(r"\(os error (\d+)\)")


class DiskFullError(Exception):
    """A file did not fit on the disk; the message says which, where, and how much is free."""

    hint = (
        "Free space on that disk (for example by deleting runs that are no longer needed), then "
        "resume the run: it continues from its last checkpoint."
    )


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Wraps the writing of files below `folder`, which exists.

    Raises:
        DiskFullError: they do not fit.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if _number(error) not in FULL:
            raise
        free = shutil.disk_usage(folder).free
        raise DiskFullError(
            f"There is no room for {what}: the disk that holds {folder} has "
            f"{free / 2**20:,.0f} MiB left."
        ) from error


def _number(error: Exception) -> int | None:
    """The errno of an error. safetensors has it in its message only."""
    if isinstance(error, OSError):
        return error.errno
    found = _NUMBER_IN_TEXT.search(str(error))
    return int(found[1]) if found else None
