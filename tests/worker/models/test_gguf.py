"""A GGUF file is dequantized once, tensor by tensor, and can be stopped in between."""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.core.settings import Settings
from chesboard.configs import CheckConfig, ScoreConfig
from chesboard.loading import ModelError
from chesboard.reporting import PhaseName, RunCancelledError
from tests.gguf_files import write_llama
from worker.models import gguf as gguf_files
from worker.models.cache import ModelCache
from worker.models.files import find_source
from worker.models.tokenizer import load_tokenizer

TOKENS = ["<s>", "</s>", *"abcdefghij", "ab"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "models" / "small"
    folder.mkdir(parents=True)
    write_llama(folder / "small.gguf", TOKENS, ["a b"])
    return Settings(models_dir=tmp_path / "models", data_dir=tmp_path / "data")


class Phases:
    """Keeps the phases, and stops the loading at the given one."""

    def __init__(self, stop_at: tuple[Any, ...] = ()) -> None:
        self.found: list[tuple[Any, ...]] = []
        self._stop_at = stop_at

    def __call__(
        self,
        name: PhaseName,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
    ) -> None:
        self.found.append((name, done, total, unit))
        if self.found[-1][:2] == self._stop_at:
            raise RunCancelledError

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name, *_ in self.found))


CONFIG = ScoreConfig(model="small", device="cpu")


def folders(settings: Settings) -> Iterator[Path]:
    """What dequantizing left."""
    return (one for one in (settings.data_dir / "cache" / "gguf").glob("*") if one.is_dir())


def test_dequantizing_reports_its_tensors_and_happens_once(settings: Settings) -> None:
    phases = Phases()
    ModelCache(settings).load(CONFIG, phases)
    assert phases.names == ["dequantizing", "loading"]
    counted = [phase for phase in phases.found if phase[3] and phase[0] == "dequantizing"]
    assert counted[0] == ("dequantizing", 0, 12, "tensors")
    assert counted[-1] == ("dequantizing", 12, 12, "tensors")
    again = Phases()
    ModelCache(settings).load(CONFIG, again)
    assert again.names == ["loading"]
    assert again.found[-1] == ("loading", 12, 12, "tensors")


def test_a_run_that_is_cancelled_while_dequantizing_leaves_nothing(settings: Settings) -> None:
    with pytest.raises(RunCancelledError):
        ModelCache(settings).load(CONFIG, Phases(stop_at=("dequantizing", 5)))
    assert list(folders(settings)) == []
    phases = Phases()
    ModelCache(settings).load(CONFIG, phases)
    assert phases.names == ["dequantizing", "loading"]


def test_a_file_that_memory_or_disk_have_no_room_for_is_not_begun(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_files, "free_bytes", lambda _: 100)
    with pytest.raises(ModelError, match=r"small\.gguf.*to float32 once.*of main memory free"):
        ModelCache(settings).load(CONFIG)
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(ModelError, match=r"small\.gguf.* the disk that holds .*gguf has 0\.0 GiB"):
        ModelCache(settings).load(CONFIG)
    assert list(folders(settings)) == []


def test_two_workers_dequantize_a_file_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_files, "WAIT_SECONDS", 0.05)
    really, converted, waits = gguf_files._convert, [], threading.Event()

    def convert(*arguments: Any) -> None:
        converted.append(arguments)
        assert waits.wait(30)  # until another one waits, which is told its phase then
        really(*arguments)

    class Waiting(Phases):
        def __call__(self, name: PhaseName, *arguments: Any, **named: Any) -> None:
            super().__call__(name, *arguments, **named)
            if len(self.found) > 2:
                waits.set()

    monkeypatch.setattr(gguf_files, "_convert", convert)
    file = settings.models_path / "small" / "small.gguf"
    with ThreadPoolExecutor() as threads:
        first = threads.submit(gguf_files.dequantized_folder, file, settings, Phases())
        while not converted:
            time.sleep(0.01)
        second = threads.submit(gguf_files.dequantized_folder, file, settings, Waiting())
        assert first.result(60) == second.result(60)
    assert len(converted) == 1


def test_a_file_that_is_no_gguf_is_refused(settings: Settings) -> None:
    (settings.models_path / "small" / "small.gguf").write_bytes(b"GGUF, it says")
    with pytest.raises(ModelError, match=r"small\.gguf.* can't be read as a GGUF model"):
        ModelCache(settings).load(CONFIG)


def test_its_tokenizer_alone_is_that_of_the_model_without_dequantizing(settings: Settings) -> None:
    tokenizer = load_tokenizer(CheckConfig(model="small"), find_source("small", settings))
    assert not (settings.data_dir / "cache").exists()
    ids = tokenizer("abcabd").input_ids
    assert TOKENS.index("ab") in ids
    assert ModelCache(settings).load(CONFIG).tokenizer("abcabd").input_ids == ids
