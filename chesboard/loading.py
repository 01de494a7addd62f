"""Loading a model from a folder, a GGUF file or the hub; devices and precisions by their names.

Weights are read from safetensors or GGUF only, and no code that comes with a model is run.
"""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from chesboard.causal_lm import (
    ModelError,
    placed,
    read_causal_lm,
    reason_of,
    source_of,
    unusable,
)
from chesboard.configs import ForwardOnlyConfig, ModelConfig
from chesboard.forward.streamed import read_streamed
from chesboard.hub.errors import HubError
from chesboard.hub.models import fetch, look_up
from chesboard.memory import free_bytes
from chesboard.model import embedding_rows
from chesboard.model_files.folder import model_at
from chesboard.model_files.inspection import count_parameters, has_tokenizer
from chesboard.model_files.json_files import FaultyFileError

__all__ = [
    "DTYPES",
    "ModelError",
    "asked_dtype",
    "choose_device",
    "load",
    "read_tokenizer",
    "tokenizer_notes",
    "why_streamed",
]

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(config: ModelConfig) -> tuple[Any, Any]:
    """(CausalLM in eval mode on its device, tokenizer).

    Of a model that does not fit there, one layer at a time is, where the configuration allows it.

    Raises:
        ModelError: no such model or device, or one that cannot be loaded.
    """
    device = choose_device(config.device)
    dtype = asked_dtype(config.dtype, device)
    location, adapter = _locate(config)
    streamed = why_streamed(config, lambda: _weight_bytes(location, dtype), device, adapter)
    if streamed is not None and not Path(location).exists():
        location = _fetched(location, config.revision or "main")
    tokenizer = read_tokenizer(config.model, location, adapter)
    if streamed is None:
        read = read_causal_lm(config.model, location, dtype, adapter)
        model = placed(config.model, read.model, device)
    else:
        read = read_streamed(config.model, Path(location), dtype, device)
        model = read.model
    for note in (*filter(None, [streamed]), *read.notes, *tokenizer_notes(tokenizer, model)):
        log.warning("%s", note)
    return model, tokenizer


def why_streamed(
    config: ModelConfig, size: Callable[[], int], device: torch.device, adapter: Path | None
) -> str | None:
    """Why a run reads its model layer by layer, as a sentence for its user; None: it does not.

    size: tells the bytes of the model as a whole, and is asked only where they matter. adapter:
    what is merged into it.

    Raises:
        ModelError: it was asked to, and cannot.
    """
    asked = config.stream if isinstance(config, ForwardOnlyConfig) else "never"
    if asked == "never":
        return None
    free, needed = free_bytes(device), size() if asked == "auto" else 0
    if asked == "auto" and needed <= free:
        return None
    if adapter is not None:
        if asked == "auto":
            return None
        raise unusable(
            config.model,
            "An adapter is merged into whole weights, not into layers that are read one by one. "
            "Merge it (peft's merge_and_unload), and save the whole model.",
        )
    sizes = (
        f"The model needs {needed / 2**30:.1f} GiB, and {device} has {free / 2**30:.1f} GiB free"
    )
    return (
        f"{'As asked' if asked == 'always' else sizes}: the layers of the model are read from disk "
        "one by one, each for as many pairs as memory holds at a time. The results are those of "
        "the whole model."
    )


def _weight_bytes(location: str, dtype: torch.dtype) -> int:
    """Of a model as a whole; 0 where that is not known before it is read."""
    folder = Path(location)
    try:
        if folder.is_dir():
            return count_parameters(folder) * dtype.itemsize
        return 0 if folder.exists() else look_up(location).parameters * dtype.itemsize
    except (FaultyFileError, HubError):
        return 0


def _locate(config: ModelConfig) -> tuple[str, Path | None]:
    """The path or hub name of a model, and the folder of an adapter that goes onto it."""
    name = config.model
    path = Path(name).expanduser()
    if not path.exists():
        return name if config.revision is None else _fetched(name, config.revision), None
    if config.revision is not None:
        raise ModelError(f"{path} is a folder: it has no revision “{config.revision}”.")
    found = model_at(path)
    if found is None:
        raise unusable(name, "There is no model: neither safetensors nor a GGUF file.")
    if found.problem:
        raise unusable(name, found.problem)
    adapter = path if found.files.adapter else None
    base = found.base
    if base is None:
        return str(
            path if path.is_dir() and found.files.kind == "folder" else found.files.weights[0]
        ), adapter
    return (base if isinstance(base, str) else str(base.path)), adapter


def _fetched(name: str, revision: str) -> str:
    """The folder of a hub model at a revision, downloaded where it is not there yet."""
    try:
        return fetch(name, revision)
    except HubError as error:
        raise ModelError(str(error)) from error


def read_tokenizer(name: str, location: str, adapter: Path | None = None) -> Any:
    """The tokenizer of a model, or the one that its adapter brings.

    name: what messages call the model. location: a folder, a GGUF file or a hub name.

    Raises:
        ModelError: it cannot be read.
    """
    if adapter is not None and has_tokenizer(adapter):
        location = str(adapter)
    source, gguf = source_of(location)
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **gguf)
    except Exception as error:
        reason = _sentencepiece_reason(source) or reason_of(error)
        of = "tokenizer or the configuration of the model" if Path(source).exists() else "model"
        raise ModelError(f"The {of} “{name}” cannot be loaded: {reason}") from error


def _sentencepiece_reason(location: str) -> str | None:
    """What a tokenizer needs that has a SentencePiece file alone; None where it has all."""
    folder = Path(location)
    names = [n for n in ("tokenizer.model", "spiece.model") if (folder / n).exists()]
    if not names or (folder / "tokenizer.json").exists() or find_spec("sentencepiece"):
        return None
    return (
        f"{names[0]} is a SentencePiece file, which needs the packages sentencepiece and protobuf "
        "on the worker (`pip install sentencepiece protobuf`). Or copy the model's tokenizer.json "
        "beside it."
    )


TOO_MANY_ROWS = 1.25
"""Rows of an embedding for each token of a tokenizer from which on they hardly belong together:
models pad their embeddings by a few per cent at most."""


def tokenizer_notes(tokenizer: Any, model: Any) -> list[str]:
    """What is to be said of a tokenizer beside its model."""
    notes = []
    rows, tokens = embedding_rows(model), len(tokenizer)
    if tokens > rows:
        notes.append(
            f"The tokenizer has {tokens:,} tokens, the model embeddings of {rows:,}: a pair with "
            "one of the others is left out."
        )
    elif rows > TOO_MANY_ROWS * tokens:
        notes.append(
            f"The tokenizer has {tokens:,} tokens, the model embeddings of {rows:,}: the tokenizer "
            "may be that of another model. Compare how it splits a text with the model's own."
        )
    return notes


def choose_device(asked: str) -> torch.device:
    """The device that a configuration names; `auto` is the first GPU, or the CPU without one.

    Raises:
        ModelError: the GPU is not available.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(asked)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ModelError(
            f"There is no device {asked}: PyTorch sees {count} GPUs. Choose device auto or cpu."
        )
    return device


def asked_dtype(asked: str, device: torch.device) -> torch.dtype:
    """The precision that a configuration names; `auto` is bfloat16 on a GPU, float32 on a CPU."""
    if asked == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return DTYPES[asked]
