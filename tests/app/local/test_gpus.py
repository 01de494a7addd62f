"""Each worker of a machine claims GPUs of its own. The driver's list is made up; locks are real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.local.errors import SetupError
from app.local.gpus import VISIBLE, claim_gpus
from tests import PROJECT_ROOT

OTHER_WORKER = """
import sys
from pathlib import Path
from app.local.gpus import claim_gpus
print(*claim_gpus(Path(sys.argv[1]), 1), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver with two GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho GPU-a\necho GPU-b\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.delenv(VISIBLE, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "gpus"


def start_other(folder: Path) -> "subprocess.Popen[str]":
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER_WORKER, str(folder)],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "GPU-a\n"
    return other


def test_a_worker_sees_the_gpu_that_no_other_has_claimed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_other(folder) as other:
        monkeypatch.setattr(os, "environ", dict(os.environ))
        assert claim_gpus(folder, 1) == ["GPU-b"]
        assert os.environ[VISIBLE] == "GPU-b"
        other.kill()


def test_the_gpu_of_a_killed_worker_is_free_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_other(folder) as other:
        other.kill()
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert claim_gpus(folder, 2) == ["GPU-a", "GPU-b"]
    assert os.environ[VISIBLE] == "GPU-a,GPU-b"


def test_a_worker_without_enough_gpus_says_how_many_are_left(folder: Path) -> None:
    with start_other(folder) as other:
        with pytest.raises(SetupError, match=r"needs 2 of the 2 GPUs .* 1 are not claimed"):
            claim_gpus(folder, 2)
        other.kill()


def test_gpus_that_were_named_are_not_claimed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "")
    assert claim_gpus(folder, 1) == []
    assert not folder.exists()


def test_without_a_driver_there_is_nothing_to_claim(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert claim_gpus(folder, 1) == []
