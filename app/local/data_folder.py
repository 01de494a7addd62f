"""Owns the lock on a data folder: one process at a time runs servers in it."""

import fcntl
import tempfile
from pathlib import Path
from typing import Any

from app.local.errors import SetupError


class FolderLock:
    """An exclusive lock (flock) on a data folder; the kernel releases it when the process ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "chesboard.lock"
        self._file: Any = None

    def acquire(self, owner: str) -> None:
        """Lock the folder and record `owner` for the error message of a second process.

        Raises:
            SetupError: another process holds the lock, or the folder is not writable.
        """
        make_writable_folder(self._path.parent)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise SetupError(
                f"The data folder {self._path.parent} is in use by {holder}. "
                "Stop that one, or set CHESBOARD_DATA_DIR to another folder."
            ) from None
        file.truncate(0)
        file.write(owner)
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def make_writable_folder(folder: Path) -> None:
    """Create the folder and check that files can be created in it.

    Raises:
        SetupError: it is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SetupError(
            f"The data folder {folder} cannot be written ({error.strerror}). "
            "Set CHESBOARD_DATA_DIR to a folder that can."
        ) from None
