"""The folder or file of one model: what kind it is, its weights, and why it cannot be used."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chesboard.model_files.adapters import (
    ADAPTER_CONFIG,
    AdapterFiles,
    base_folder_name,
    read_adapter,
)
from chesboard.model_files.architectures import class_name, find_refusal
from chesboard.model_files.headers import find_fault, tensor_names, tensor_shapes
from chesboard.model_files.json_files import FaultyFileError, find_json_fault, read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
    "sentencepiece.bpe.model", "tekken.json", "tokenizer.tiktoken", "merges.txt", "source.spm",
)  # fmt: skip
"""Files of which a tokenizer has at least one, or one that ends with `.tiktoken`."""
OTHER_WEIGHTS = {
    "*.bin": "pickled weights of PyTorch",
    "*.pt": "pickled weights of PyTorch",
    "*.pth": "pickled weights of PyTorch",
    "*.ckpt": "pickled weights of PyTorch",
    "*.pkl": "a pickle",
    "*.onnx": "weights for ONNX",
    "*.h5": "weights for TensorFlow",
    "*.msgpack": "weights for Flax",
    "*.npz": "weights for MLX or NumPy",
    "*.tflite": "weights for TensorFlow Lite",
    "*.mlpackage": "weights for Core ML",
}
_NOT_MODELS = re.compile(r"(training_args|optimizer|scheduler|rng_state|scaler).*")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
PLAUSIBLE_LAYERS = 1000
_PARTS = re.compile(r"-\d{5}-of-(\d{5})\.(?:gguf|safetensors)$")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's files as their names, headers and configurations describe them."""

    kind: Literal["folder", "gguf", "adapter"]
    weights: tuple[Path, ...] = ()
    """The files that are read: safetensors of the model (of an adapter alone, its own), or one
    GGUF file."""
    adapter: AdapterFiles | None = None
    """Of an adapter alone, or beside a model."""
    problem: str | None = None
    """Why its weights cannot be used, as sentences; None if nothing speaks against it."""
    tokenizer_problem: str | None = None
    """The same of its tokenizer. An adapter may bring another one."""

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.weights if file.exists())


def inspect(path: Path) -> ModelFiles | None:
    """The model at a path; None if nothing there looks like one."""
    if path.is_file():
        return _gguf(path) if path.suffix == ".gguf" else None
    if not path.is_dir():
        return None
    if any(path.glob("model*.safetensors")) or (path / INDEX).exists():
        return _whole_model(path)
    if (path / ADAPTER_CONFIG).exists():
        adapter = read_adapter(path)
        return ModelFiles("adapter", (adapter.weights,), adapter, adapter.problem)
    if ggufs := sorted(path.glob("*.gguf")):
        return _gguf(ggufs[0])  # the first one is loaded
    return _unusable(path)


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder has the files of a tokenizer, read or not."""
    return any((folder / name).exists() for name in TOKENIZER_FILES) or any(
        folder.glob("*.tiktoken")
    )


def find_tokenizer_problem(folder: Path) -> str | None:
    """Why a folder's tokenizer cannot be used, as sentences; None if nothing speaks against it."""
    if not has_tokenizer(folder):
        return (
            "The folder has no tokenizer: copy tokenizer.json and tokenizer_config.json (or "
            "tokenizer.model) from where the model comes from."
        )
    files = (folder / name for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json"))
    return next((fault for f in files if f.exists() and (fault := find_json_fault(f))), None)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that transformers reads: those of the index, else the single one.

    Raises:
        FaultyFileError: the index is damaged, or it or a file that it names is missing.
    """
    single = folder / SINGLE
    if single.exists():
        return (single,)
    if not (folder / INDEX).exists():
        found = ", ".join(sorted(file.name for file in folder.glob("*.safetensors"))[:3])
        raise FaultyFileError(
            f"The folder has {found}, but neither {SINGLE} nor {INDEX}, which names the parts. "
            "Copy the index from where the model comes from, or save the model anew with "
            "save_pretrained."
        )
    named = read_json(folder / INDEX).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise FaultyFileError(f"{INDEX} has no `weight_map`: copy or download it again.")
    files = tuple(folder / Path(name).name for name in sorted(set(named.values())))
    missing = [file.name for file in files if not file.exists() and not file.is_symlink()]
    if missing:
        raise FaultyFileError(
            f"{_few(missing)}, which {INDEX} names, {'is' if len(missing) == 1 else 'are'} "
            "missing: copy or download what is missing."
        )
    return files


def count_parameters(folder: Path) -> int:
    """How many numbers the tensors of a folder's safetensors files hold, by their headers.

    Raises:
        FaultyFileError: as by `weight_files`.
    """
    shapes = (tensor_shapes(file) for file in weight_files(folder))
    return sum(math.prod(shape) for found in shapes for shape in found.values())


def _gguf(file: Path) -> ModelFiles:
    problem = find_fault(file)
    if problem is None and (part := _PARTS.search(file.name)) and part[1] != "00001":
        problem = (
            f"{file.name} is one of {int(part[1])} parts of a GGUF file, and only whole ones are "
            "opened. Join them with `llama-gguf-split --merge`."
        )
    return ModelFiles("gguf", (file,), problem=problem)


def _whole_model(folder: Path) -> ModelFiles:
    adapter = read_adapter(folder) if (folder / ADAPTER_CONFIG).exists() else None
    try:
        weights = weight_files(folder)
        config = read_json(folder / "config.json")
    except FaultyFileError as error:
        files = tuple(sorted(folder.glob("model*.safetensors")))
        return ModelFiles("folder", files, adapter, str(error))
    faults = (
        *(find_fault(file) for file in weights),
        _sentence_transformer(folder),
        find_refusal(config),
        _no_head(config, weights),
        _too_many_layers(config, weights),
        adapter and (adapter.problem or _other_base(folder, adapter)),
    )
    problem = next((fault for fault in faults if fault), None)
    return ModelFiles("folder", weights, adapter, problem, find_tokenizer_problem(folder))


def _no_head(config: dict[str, Any], weights: tuple[Path, ...]) -> str | None:
    """Why a model saved without its output head is refused, where its configuration is certain."""
    name = class_name(config)
    if not name.endswith("Model") or config.get("tie_word_embeddings") is not False:
        return None
    tensors = [name for file in weights for name in tensor_names(file)]
    if not tensors or any(mark in name for name in tensors for mark in ("head", "embed_out")):
        return None
    return (
        f"The files hold {name} alone, without an output head (lm_head.weight), so there are "
        "no probabilities of tokens. Save the whole model with save_pretrained."
    )


def _too_many_layers(config: dict[str, Any], weights: tuple[Path, ...]) -> str | None:
    """A worker that built so many layers, before it read any weights, would run out of memory."""
    parts = (config, config.get("text_config"))
    layers = [part.get(name) for part in parts if isinstance(part, dict) for name in _LAYERS]
    most = max((count for count in layers if isinstance(count, int)), default=0)
    if most <= PLAUSIBLE_LAYERS:
        return None
    tensors = sum(len(tensor_names(file)) for file in weights)
    if most <= tensors:
        return None
    return (
        f"config.json tells of {most:,} layers, and the files hold {tensors:,} tensors. Copy or "
        "download config.json again."
    )


def _sentence_transformer(folder: Path) -> str | None:
    if not (folder / "modules.json").exists():
        return None
    return (
        "modules.json tells of an embedding model (sentence-transformers): it was trained to give "
        "texts vectors, and its probabilities of tokens mean nothing."
    )


def _other_base(folder: Path, adapter: AdapterFiles) -> str | None:
    """Why an adapter beside a model is not loaded onto it: where it names another base, the model
    may be what merging the adapter gave."""
    if adapter.base is None or base_folder_name(adapter.base) in _names(folder):
        return None
    return (
        f"The folder holds a whole model and an adapter of “{adapter.base}”, and nothing tells "
        "whether the model is that base or has the adapter merged already. If it is merged, delete "
        f"{ADAPTER_CONFIG} and {adapter.weights.name}; if it is the base, move these two files "
        f"to a folder of their own and rename this one to “{base_folder_name(adapter.base)}”."
    )


def _names(folder: Path) -> set[str]:
    """The last part of the names that a folder goes by."""
    snapshot = base_folder_name(str(folder.absolute()))
    return {folder.name, folder.resolve().name, snapshot}


def _unusable(folder: Path) -> ModelFiles | None:
    """A folder without weights that could be opened; None if it does not look like a model."""
    safetensors = tuple(sorted(folder.glob("*.safetensors")))
    if safetensors:
        fault = next((fault for file in safetensors if (fault := find_fault(file))), None)
        return ModelFiles("folder", safetensors, problem=fault or _misnamed(folder))
    for pattern, what in OTHER_WEIGHTS.items():
        found = sorted(f for f in folder.glob(pattern) if not _NOT_MODELS.match(f.name))
        if found:
            return ModelFiles("folder", problem=_other_weights(found[0].name, what))
    if (folder / "config.json").exists():
        return ModelFiles(
            "folder", problem=f"The folder has config.json but no weights: {SINGLE} is missing."
        )
    return None


def _misnamed(folder: Path) -> str:
    try:
        weight_files(folder)
    except FaultyFileError as error:
        return str(error)
    return ""


def _other_weights(name: str, what: str) -> str:
    if "pickle" not in what:
        return (
            f"The folder has {what} only ({name}), which are not opened. Take the model's "
            "safetensors or GGUF files."
        )
    return (
        f"The folder has {what} only ({name}). Pickles are never opened, since they can run code. "
        "Where you trust the file, convert it: open the model with transformers there and save it "
        "with save_pretrained, which writes safetensors."
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
