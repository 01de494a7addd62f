"""Where a model's files are: from the name in a run's configuration to a folder or a hub name.

A name is a folder or a GGUF file in the models folder, `run:ID` for the result of a training
run, or a hub name. Nothing outside those is opened.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from app.core.settings import Settings
from chesboard.loading import ModelError


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights are read from: a folder of safetensors, a GGUF file, or a hub name.

    Two sources are equal only if their weights are: `fingerprint` has sizes and times of files.
    """

    path: Path | None
    """None: `location` is a hub name."""
    location: str
    fingerprint: tuple[object, ...] = ()

    @property
    def is_gguf(self) -> bool:
        return self.path is not None and self.path.suffix == ".gguf" and self.path.is_file()


def find_source(name: str, settings: Settings) -> Source:
    """Resolve the name of a model. A name with one slash that is no folder is a hub name.

    Raises:
        ModelError: no such model, or one outside the models folder.
    """
    models = settings.models_path.resolve()
    if name.startswith("run:"):
        return folder_source(_result_folder(name, settings))
    path = (models / name).resolve()
    if not path.is_relative_to(models):
        raise ModelError(f"The model “{name}” lies outside the models folder.")
    if path.is_file() and path.suffix == ".gguf":
        return _gguf_source(path)
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        if any(path.glob("*.safetensors")):
            return folder_source(path)
        if ggufs:
            return _gguf_source(ggufs[0])
        raise ModelError(
            f"The folder of the model “{name}” holds neither safetensors nor GGUF files. "
            "Other kinds of weights are not opened."
        )
    if name.count("/") == 1:
        return Source(None, name)
    raise ModelError(
        f"There is no model “{name}”. The models that can be named are listed under GET "
        "/api/v1/models; `chesboard models pull` downloads the starter model."
    )


def folder_source(folder: Path) -> Source:
    """The safetensors files of a folder."""
    files = sorted(folder.glob("*.safetensors"))
    fingerprint = tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return Source(folder, str(folder), fingerprint)


def _gguf_source(file: Path) -> Source:
    stat = file.stat()
    return Source(file, str(file), (stat.st_size, stat.st_mtime_ns))


def _result_folder(name: str, settings: Settings) -> Path:
    number = name.removeprefix("run:")
    folder = settings.run_path(int(number)) / "model" if number.isdigit() else None
    if folder is None or not folder.is_dir():
        raise ModelError(
            f"{name} has left no model: name a training run that succeeded, as run:ID."
        )
    return folder


def count_parameters(folder: Path) -> int:
    """From the headers of the safetensors files: no weights are read."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict, it has no iterator
                size = 1
                for extent in tensors.get_slice(name).get_shape():
                    size *= extent
                total += size
    return total


def save_folder(model: torch.nn.Module, tokenizer: object, folder: Path) -> None:
    """Write a folder that from_pretrained opens, atomically: an earlier one stays if it fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        model.save_pretrained(unfinished)  # type: ignore[operator]
        tokenizer.save_pretrained(unfinished)  # type: ignore[attr-defined]
        unfinished.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
