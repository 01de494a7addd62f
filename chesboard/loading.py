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
        model = read_causal_lm(source, dtype, **gguf)
    except ModelError:
        raise
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [repr(error)])[0]
        raise ModelError(f"The model “{config.model}” cannot be loaded: {first_line}") from error
    return model.to(device).eval(), tokenizer


def read_causal_lm(location: str, dtype: torch.dtype, **named: Any) -> Any:
    """The CausalLM of a folder or hub name, with every weight from its files.

    transformers fills what the files lack with random numbers, and only logs it: a base model
    without its head would score differently at every run.

    Raises:
        ModelError: the files lack a tensor or hold it in another shape, or a weight is NaN or
            infinite; the message names the tensor.
    """
    model, info = AutoModelForCausalLM.from_pretrained(
        location,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # refused below, by name
        **named,
    )
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"The model's files lack {len(missing)} of its tensors ({_first(missing)}), which "
            "would be random numbers. Save the whole model, its output head included, with "
            "save_pretrained."
        )
    if mismatched := sorted(str(found[0]) for found in info["mismatched_keys"]):
        raise ModelError(
            f"{len(mismatched)} tensors in the model's files have another shape than its "
            f"config.json says ({_first(mismatched)}). The files belong to different models."
        )
    damaged = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if damaged:
        raise ModelError(
            f"{len(damaged)} tensors of the model hold NaN or infinity ({_first(damaged)}): the "
            "training that made it diverged, or the file is damaged."
        )
    return model


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


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
