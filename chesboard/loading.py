"""Loading a model from a folder, a GGUF file or the hub; devices and precisions by their names.

Weights are read from safetensors or GGUF only, and no code that comes with a model is run.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from chesboard.configs import ModelConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class ModelError(Exception):
    """A model or device that cannot be used; the message is for the user and says what to do."""


def load(config: ModelConfig) -> tuple[Any, Any]:
    """(CausalLM in eval mode on its device, tokenizer).

    Raises:
        ModelError: no such model or device, or one that cannot be loaded.
    """
    device = choose_device(config.device)
    dtype = asked_dtype(config.dtype, device)
    path = Path(config.model).expanduser()
    try:
        if path.suffix == ".gguf":
            source, gguf = str(path.parent), {"gguf_file": path.name}
        else:
            source, gguf = str(path) if path.exists() else config.model, {}
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **gguf)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, use_safetensors=True, trust_remote_code=False, **gguf
        )
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [repr(error)])[0]
        raise ModelError(f"The model “{config.model}” cannot be loaded: {first_line}") from error
    return model.to(device).eval(), tokenizer


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
