"""The weights of a causal language model, read whole or refused.

transformers fills what files lack with random numbers, opens encoders as if they read from left to
right, and loads an adapter that it finds beside a model: here each is refused or said.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers import __version__ as transformers_version
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from chesboard.adapters import AdapterError, merge_adapter
from chesboard.model_files.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from chesboard.reporting import RunStoppedError
from chesboard.sharding import own_part
from chesboard.transformers_api import dtype_option, mismatched_names

LOOKS_AHEAD = 1e-3
"""Relative change of logits by a later token from which on a model counts as bidirectional."""


class ModelError(Exception):
    """A model or device that cannot be used; the message is for the user and says what to do."""


def unusable(name: str, problem: str) -> ModelError:
    return ModelError(f"The model “{name}” cannot be used. {problem}")


@dataclass(frozen=True, slots=True)
class ReadModel:
    """A CausalLM as its files have it, and what is to be said of them."""

    model: Any
    notes: tuple[str, ...]


def read_causal_lm(
    name: str,
    location: str,
    dtype: torch.dtype,
    adapter: Path | None = None,
    **options: Any,
) -> ReadModel:
    """The CausalLM of a folder, GGUF file or hub name, with every weight from its files.

    transformers fills what the files lack with random numbers, and only logs it: a base model
    without its head would score differently at every run.

    name: what messages call the model. adapter: the folder of an adapter, merged into the model;
    it may be the model's own folder. options: further arguments of `from_pretrained`.

    Raises:
        ModelError: it cannot be opened; the files lack a tensor or hold it in another shape, or a
            weight is NaN or infinite; or the adapter does not fit. The message names the tensor.
    """
    try:
        with _without_adapter(location, adapter) as model_alone:
            source, gguf = source_of(model_alone)
            model, info = AutoModelForCausalLM.from_pretrained(
                source,
                **dtype_option(dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
                **gguf,
                **options,
            )
    except RunStoppedError:
        raise
    except Exception as error:
        raise ModelError(
            f"The model “{name}” cannot be loaded: {_explain(location, error)}"
        ) from error
    if getattr(model, "peft_config", None):
        raise unusable(
            name,
            "It is an adapter on the hub. Download it into the models folder (`hf download NAME "
            "--local-dir FOLDER`), where it is merged into its base model.",
        )
    refuse_if_incomplete(info)
    refuse_if_damaged(model.named_parameters())
    _refuse_unknown_quantization(name, model)
    notes = unused_tensors(info)
    if adapter is not None:
        try:
            model = merge_adapter(model, adapter)
        except AdapterError as error:
            raise unusable(name, str(error)) from error
        notes.append(_merged(location, adapter))
    return ReadModel(model, tuple(notes))


def placed(name: str, model: Any, device: torch.device) -> Any:
    """The model on its device in eval mode, once it was seen to read a text from left to right.

    Raises:
        ModelError: it reads no text, or tokens depend on those that follow them.
    """
    try:
        model = model.to(device).eval()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise _unreadable(name, device, error) from error
    refuse_if_bidirectional(name, model, device)
    return model


def refuse_if_bidirectional(name: str, model: Any, device: torch.device) -> None:
    """Have a model on its device read a text.

    Raises:
        ModelError: it reads no text, or tokens depend on those that follow them.
    """
    try:
        change = _change_by_a_later_token(model, device)
    except (torch.OutOfMemoryError, ModelError):
        raise
    except Exception as error:
        raise _unreadable(name, device, error) from error
    if getattr(model.config, "is_encoder_decoder", False) or change > LOOKS_AHEAD:
        raise unusable(
            name,
            f"{type(model).__name__} is no causal language model here: what it gives at a token "
            "depends on tokens that follow it. CHES and log-probabilities of responses are defined "
            "for models that read from left to right.",
        )


def _unreadable(name: str, device: torch.device, error: Exception) -> ModelError:
    return ModelError(f"The model “{name}” cannot read a text on {device}: {reason_of(error)}")


@torch.no_grad()
def _change_by_a_later_token(model: Any, device: torch.device) -> float:
    """By how much logits change, relative to their size, when only a later token does."""
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(8, device=device) % rows
    other = torch.cat([ids[:-1], (ids[-1:] + 1) % rows])
    logits = model(input_ids=torch.stack([ids, other]), use_cache=False).logits[:, :-1].float()
    # Some models give tokens that they never write the lowest number there is.
    kept = logits.isfinite() & (logits.abs() < 1e30)
    before, after = logits.where(kept, 0.0)
    return float((after - before).norm() / before.norm().clamp_min(1e-12))


def _explain(location: str, error: Exception) -> str:
    """Why transformers could not open a model, and what to do where that is known."""
    source, gguf = source_of(location)
    if gguf:
        return (
            f"it can't be read as a GGUF model ({reason_of(error)}). The file is cut off, or of a "
            "kind that transformers does not open: download it again, or take safetensors."
        )
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        method = quantization_method(config)
    except Exception:
        method = None
    if method is None:
        return reason_of(error)
    return (
        f"its weights are quantized ({method}), and this worker cannot open them. "
        f"{reason_of(error).rstrip('.')}. Or take the model in its original precision, or as GGUF."
    )


def _refuse_unknown_quantization(name: str, model: Any) -> None:
    """transformers ignores a method that it does not know, and takes the numbers for weights."""
    method = quantization_method(model.config)
    if method is not None and method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise unusable(
            name,
            f"Its weights are quantized by “{method}” (config.json), which transformers "
            f"{transformers_version} does not know. Take the model in its original precision, or "
            "as GGUF.",
        )


def quantization_method(config: Any) -> str | None:
    """How the weights of a model are quantized, by its configuration; None if they are not."""
    found = getattr(config, "quantization_config", None)
    named = found.get("quant_method") if isinstance(found, dict) else None
    method = named or getattr(found, "quant_method", None)
    return None if method is None else str(getattr(method, "value", method))


@contextmanager
def _without_adapter(location: str, adapter: Path | None) -> Iterator[str]:
    """The folder of a model without the adapter beside it, which transformers would load by
    itself, unchecked and unmerged."""
    if adapter is None or Path(location).resolve() != adapter.resolve():
        yield location
        return
    with TemporaryDirectory() as view:
        for file in adapter.iterdir():
            if file.name not in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                (Path(view) / file.name).symlink_to(file.resolve())
        yield view


def refuse_if_incomplete(info: dict[str, Any]) -> None:
    """Refuse a model that `from_pretrained` filled with what its files do not hold.

    info: what `output_loading_info` gives.

    Raises:
        ModelError: the files lack a tensor or hold it in another shape.
    """
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"The model's files lack {len(missing)} of its tensors ({_first(missing)}), which "
            "would be random numbers. Save the whole model, its output head included, with "
            "save_pretrained."
        )
    if mismatched := sorted(mismatched_names(info)):
        raise ModelError(
            f"{len(mismatched)} tensors in the model's files have another shape than its "
            f"config.json says ({_first(mismatched)}). The files belong to different models."
        )


def refuse_if_damaged(weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raises:
    ModelError: a weight is NaN or infinite; the message names the tensors.
    """
    damaged = [name for name, weight in weights if not _is_finite(weight)]
    if damaged:
        raise ModelError(
            f"{len(damaged)} tensors of the model hold NaN or infinity ({_first(damaged)}): the "
            "training that made it diverged, or the file is damaged."
        )


def _is_finite(weight: torch.Tensor) -> bool:
    weight = own_part(weight)
    if weight.is_floating_point() and weight.itemsize == 1:
        weight = weight.float()  # not implemented for float8
    return bool(weight.isfinite().all())


def unused_tensors(info: dict[str, Any]) -> list[str]:
    """What is to be said of tensors in the files that the model has no place for."""
    unused = sorted(info.get("unexpected_keys") or ())
    if not unused:
        return []
    return [
        f"{len(unused)} tensors in the model's files are not part of the language model and are "
        f"not used ({_first(unused)})."
    ]


def _merged(location: str, adapter: Path) -> str:
    if Path(location).resolve() == adapter.resolve():
        return (
            "The model's folder holds an adapter beside the model: it was merged into the model. "
            "If the model has it already, delete adapter_config.json."
        )
    return f"The adapter was merged into its base model, {Path(location).name}."


def source_of(location: str) -> tuple[str, dict[str, str]]:
    """What `from_pretrained` takes for a folder, a GGUF file or a hub name."""
    path = Path(location)
    if path.suffix == ".gguf" and path.is_file():
        return str(path.parent), {"gguf_file": path.name}
    return location, {}


def reason_of(error: Exception) -> str:
    """The first lines of an error, which may be a list below a heading; never an empty text."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    text = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    named = isinstance(error, LookupError | AttributeError | AssertionError) or not text
    return f"{type(error).__name__}: {text}" if named else text


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
