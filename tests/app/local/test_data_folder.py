"""A data folder has one holder."""

from pathlib import Path

import pytest

from app.local.data_folder import FolderLock
from app.local.errors import SetupError


def test_a_folder_has_one_holder_and_names_it_to_the_second(folder: Path) -> None:
    first, second = FolderLock(folder), FolderLock(folder)
    first.acquire("chesboard (process 12)")
    with pytest.raises(SetupError, match=r"is in use by chesboard \(process 12\)"):
        second.acquire("another")
    first.release()
    second.acquire("another")
    second.release()


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot be written \(Not a directory\)") as caught:
        FolderLock(tmp_path / "file" / "data").acquire("chesboard")
    assert "\n" not in str(caught.value)
