"""The folder for temporary files: what is said where it is full, or cannot be written."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from app.core.errors import UnavailableError


@contextmanager
def temporary_files() -> Iterator[None]:
    """Raises:
    UnavailableError: an operation on temporary files failed; says which folder and why.
    """
    try:
        yield
    except OSError as error:
        raise UnavailableError(describe(error)) from error


def describe(error: OSError) -> str:
    """One sentence with the folder, the reason, and what to do."""
    if isinstance(error.filename, str) and not error.filename.startswith(str(tempfile.tempdir)):
        return f"{error.filename} cannot be written: {error.strerror}. Free space there."
    folder = tempfile.tempdir or "the folder that TMPDIR names"
    return (
        f"The folder for temporary files ({folder}) cannot be written: {error.strerror or error}. "
        "Nothing of this request was stored; free space there, or set TMPDIR to another folder."
    )
