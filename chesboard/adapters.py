"""Adapters of peft, merged into the model that they were trained on."""

import warnings
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

from chesboard.model_files.adapters import ADAPTER_WEIGHTS

_PREFIX = "base_model.model."


class AdapterError(Exception):
    """An adapter that does not fit its base model; the message is for the user."""


def merge_adapter(model: nn.Module, folder: Path) -> Any:
    """The model with the adapter of a folder added to its weights. `model` is changed.

    An adapter that was trained with new tokens, and holds the whole embedding for it, gives the
    model that embedding.

    Raises:
        AdapterError: the adapter needs modules or shapes that the model does not have, lacks a
            tensor, holds NaN or infinity, or cannot be merged; the message names what.
    """
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise AdapterError("Adapters need the package peft: `pip install peft`.") from error
    _refuse_if_damaged(folder / ADAPTER_WEIGHTS)
    _resize_embedding(model, folder / ADAPTER_WEIGHTS)
    try:
        # peft's warnings are of what is checked here, or of saving it as an adapter.
        with warnings.catch_warnings(action="ignore"):
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            adapted = PeftModel(model, config)
            result = adapted.load_adapter(str(folder), "default", torch_device="cpu")
            _refuse_if_misfit(result)
            return adapted.merge_and_unload()
    except AdapterError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or repr(error)
        raise AdapterError(f"The adapter does not fit its base model: {reason[:500]}") from error


def _refuse_if_misfit(result: Any) -> None:
    if result.unexpected_keys:
        raise AdapterError(
            f"The adapter has {len(result.unexpected_keys)} tensors for which its base model has "
            f"no place ({_few(result.unexpected_keys)}): it was trained on another model."
        )
    if result.missing_keys:
        raise AdapterError(
            f"The adapter lacks {len(result.missing_keys)} tensors that its configuration speaks "
            f"of ({_few(result.missing_keys)}), which would be random numbers. Save it anew with "
            "peft's save_pretrained."
        )


def _refuse_if_damaged(file: Path) -> None:
    with safe_open(file, framework="pt") as tensors:
        names = list(tensors.keys())
        damaged = [n for n in names if not tensors.get_tensor(n).float().isfinite().all()]
    if damaged:
        raise AdapterError(
            f"{len(damaged)} tensors of the adapter hold NaN or infinity ({_few(damaged)}): the "
            "training that made it diverged, or the file is damaged."
        )


def _resize_embedding(model: Any, file: Path) -> None:
    """Give the embedding as many rows as an adapter has that holds all of them."""
    names = {id(module): name for name, module in model.named_modules()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    rows = embedding.weight.shape[0]
    tied = head is None or head.weight is embedding.weight
    with safe_open(file, framework="pt") as tensors:
        saved = {
            name.removeprefix(_PREFIX): tensors.get_slice(name).get_shape()[0]
            for name in tensors.keys()  # noqa: SIM118 - not a dict, it has no iterator
        }
    wanted = saved.get(f"{names[id(embedding)]}.weight", rows)
    if wanted == rows:
        return
    head_rows = wanted if tied else saved.get(f"{names[id(head)]}.weight", rows)
    if head_rows != wanted:
        raise AdapterError(
            f"The adapter's embedding ({names[id(embedding)]}.weight) has {wanted} rows, its base "
            f"model's output head {head_rows}: the tokens that it adds would have random ones. "
            f"Save the adapter with its head (modules_to_save), or merge it before saving."
        )
    model.resize_token_embeddings(wanted, mean_resizing=False)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
