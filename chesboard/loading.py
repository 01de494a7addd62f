"""Loading a model from a folder, a GGUF file or the hub, for `chesboard score`.

Weights are read from safetensors or GGUF only, and no code that comes with a model is run.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from chesboard.configs import ModelConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class ModelError(Exception):
    """A model or a device that cannot be used; the message is for the user."""


def load(config: ModelConfig) -> tuple[Any, Any]:
    """(CausalLM in eval mode on its device, tokenizer).

    Raises:
        ModelError: no such model or device, or one that cannot be loaded.
    """
    device = _device(config.device)
    automatic = torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = DTYPES.get(config.dtype, automatic)
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


def _device(asked: str) -> torch.device:
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(asked)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ModelError(f"There is no device {asked}: PyTorch sees {count} GPUs.")
    return device
