"""Telling a disk that ran full from every other way that a file can't be written."""

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No space, a user's share used up, a file larger than may be."""

_NUMBER_IN_TEXT = re.compile(r"\(os error (\d+)\)")


class DiskFullError(Exception):
    """Something did not fit on the disk; the message says what, where, and what room there is."""

    hint = (
        "Make room on that disk (runs that are no longer needed can be deleted, their results with "
        "them), then resume the run: it goes on from its last checkpoint."
    )


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Around the writing of files below a folder that exists.

    Raises:
        DiskFullError: there is no room for them.
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
    """The system's number of what went wrong. safetensors says it in its text alone."""
    if isinstance(error, OSError):
        return error.errno
    found = _NUMBER_IN_TEXT.search(str(error))
    return int(found[1]) if found else None
