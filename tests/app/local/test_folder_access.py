"""Where Chesboard is started as root, PostgreSQL's user alone is let through closed folders."""

import os
import subprocess
from pathlib import Path

import pytest

from app.local.folder_access import let_search

ONE, ANOTHER = 12_345, 12_346


def can_read(file: Path, uid: int) -> bool:
    """As a user of that id, with no group."""
    done = subprocess.run(
        ["cat", file], user=uid, group=uid, extra_groups=[], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o700, 0o750, 0o711])
def test_one_user_passes_and_no_other(tmp_path: Path, mode: int) -> None:
    base = Path("/var/tmp") / tmp_path.name  # pytest's own folder is closed further up
    closed = base / "closed"
    closed.mkdir(parents=True)
    try:
        base.chmod(0o755)
        file = closed / "file"
        file.write_text("text")
        file.chmod(0o644)
        closed.chmod(mode)
        for _ in range(2):
            let_search(closed, ONE)
            assert can_read(file, ONE)
            assert can_read(file, ANOTHER) is (mode == 0o711)
            assert closed.stat().st_mode & 0o007 == mode & 0o007
    finally:
        subprocess.run(["rm", "-rf", base], check=True)
