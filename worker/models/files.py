"""Where a model's files are: from the name in a run's configuration to a folder or a hub name.

A name is a folder or a GGUF file in the models folder, `run:ID` for the result of a training
run, or a hub name. Nothing outside those is opened, but for what links in the models folder lead
to. An adapter leads to its base model, and is merged into it.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import torch

from app.core.settings import Settings
from chesboard.causal_lm import ModelError, unusable
from chesboard.model_files.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from chesboard.model_files.folder import HUB_NAME, FoundModel, find_model


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights are read from: a folder of safetensors, a GGUF file, or a hub name.

    Two sources are equal only if their weights are: `fingerprint` has sizes and times of files.
    """

    path: Path | None
    """None: `location` is a hub name."""
    location: str
    fingerprint: tuple[object, ...] = ()
    adapter: Path | None = None
    """The folder of an adapter that is merged into the weights; it may be `path` itself."""

    @property
    def is_gguf(self) -> bool:
        return self.path is not None and self.path.suffix == ".gguf" and self.path.is_file()


def find_source(name: str, settings: Settings) -> Source:
    """Resolve the name of a model. One that the models folder lacks may be a hub name.

    Raises:
        ModelError: no such model, one outside the models folder, or one that cannot be used; the
            message says why.
    """
    if name.startswith("run:"):
        return folder_source(_result_folder(name, settings))
    found = find_model(settings.models_path, name)
    if found is not None:
        if found.problem:
            raise unusable(name, found.problem)
        return _source(found)
    if HUB_NAME.fullmatch(name):
        return Source(None, name)
    if name.startswith("/") or ".." in name.split("/"):
        raise ModelError(f"The model “{name}” lies outside the models folder.")
    raise ModelError(
        f"There is no model “{name}”. The models that can be named are listed under GET "
        "/api/v1/models; `chesboard models pull` downloads the starter model."
    )


def _source(found: FoundModel) -> Source:
    if isinstance(found.base, str):
        return with_adapter(Source(None, found.base), found.path)
    if found.base is not None:
        return with_adapter(_source(found.base), found.path)
    if found.files.kind == "gguf":
        [file] = found.files.weights
        return Source(file, str(file), _stamps([file]))
    source = folder_source(found.path)
    return with_adapter(source, found.path) if found.files.adapter else source


def folder_source(folder: Path) -> Source:
    """The safetensors files of a folder."""
    return Source(folder, str(folder), _stamps(sorted(folder.glob("*.safetensors"))))


def with_adapter(source: Source, adapter: Path) -> Source:
    """The source with the adapter of a folder merged into it."""
    stamps = _stamps([adapter / ADAPTER_CONFIG, adapter / ADAPTER_WEIGHTS])
    return replace(source, adapter=adapter, fingerprint=(*source.fingerprint, *stamps))


def _stamps(files: Sequence[Path]) -> tuple[object, ...]:
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _result_folder(name: str, settings: Settings) -> Path:
    number = name.removeprefix("run:")
    folder = settings.run_path(int(number)) / "model" if number.isdigit() else None
    if folder is None or not folder.is_dir():
        raise ModelError(
            f"{name} has left no model: name a training run that succeeded, as run:ID."
        )
    return folder


def save_folder(model: torch.nn.Module, tokenizer: object, folder: Path) -> None:
    """Write a folder that from_pretrained opens, atomically: an earlier one stays if it fails.

    What a worker left that was killed meanwhile is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}-"
    _remove_abandoned(folder.parent, prefix)
    unfinished = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        with (unfinished / _LOCK).open("w") as file:
            _lock(file)  # ends with the process, however that ends
            model.save_pretrained(unfinished)  # type: ignore[operator]
            tokenizer.save_pretrained(unfinished)  # type: ignore[attr-defined]
            unfinished.chmod(0o755)
            (unfinished / _LOCK).unlink()
            if folder.exists():
                shutil.rmtree(folder)
            unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


_LOCK = ".writing"


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove unfinished folders whose writers have ended."""
    for folder in parent.iterdir():
        if not folder.name.startswith(prefix):
            continue
        with suppress(FileNotFoundError), (folder / _LOCK).open("r+") as file:
            if _lock(file):
                shutil.rmtree(folder, ignore_errors=True)


def _lock(file: IO[str]) -> bool:
    """Whether nobody else has it. Where the file system has no locks, somebody may."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
