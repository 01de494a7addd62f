"""Loading a model onto a device: choice of device and precision, memory check, eval mode.

Weights are read from safetensors only, and no code that comes with a model is run.
"""

import math

import psutil
import torch

from chesboard import cpu
from chesboard.causal_lm import ModelError, placed, read_causal_lm, unusable
from chesboard.configs import ModelConfig, ObjectiveConfig, PreflightConfig, TrainConfig
from chesboard.loading import DTYPES, read_tokenizer, tokenizer_notes
from chesboard.model import LoadedModel
from worker.models import hub
from worker.models.files import Source, count_parameters
from worker.models.progress import OnPhase, tensors_reported


def describe_device(device: torch.device) -> str:
    """For people: "cuda:0 (NVIDIA H100, 80 GiB)", "cpu (2 threads)"."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'' if threads == 1 else 's'})"


def other_precision(config: ModelConfig, loaded: LoadedModel) -> str | None:
    """A message for the user if a run computes in another precision than requested."""
    if config.dtype == "auto" or DTYPES[config.dtype] == loaded.compute_dtype:
        return None
    weights = "" if isinstance(config, ObjectiveConfig) else ", with weights rounded to bfloat16"
    return (
        "This worker's processor has no instructions for bfloat16 (AMX or AVX-512 BF16), so "
        f"bfloat16 would be slow. The run computes in float32{weights}."
    )


def load_model(
    config: ModelConfig,
    source: Source,
    device: torch.device,
    weights_dtype: torch.dtype,
    compute_dtype: torch.dtype,
    on_phase: OnPhase,
) -> LoadedModel:
    """Load a model in eval mode; download it first where it is a hub model.

    Raises:
        ModelError: unreadable, incomplete, damaged, or too large for the device.
        RunStoppedError: `on_phase` raised it.
    """
    parameters, location = prepare_files(config, source, device, weights_dtype, on_phase)
    on_phase("loading")
    tokenizer = read_tokenizer(config.model, location, source.adapter)
    with tensors_reported(on_phase, "loading"):
        read = read_causal_lm(config.model, location, weights_dtype, source.adapter)
    model = placed(config.model, read.model, device)
    if isinstance(config, ObjectiveConfig) and getattr(model, "is_quantized", False):
        raise unusable(
            config.model,
            "Its weights are quantized, and such have no gradients to train by: take the model in "
            "its original precision.",
        )
    cpu.install(
        model,
        compute_dtype=compute_dtype,
        blockwise_attention=not isinstance(config, ObjectiveConfig),
        before_widening=lambda: _refuse_if_too_large(
            config, parameters or 0, device, torch.float32
        ),
    )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        compute_dtype=compute_dtype,
        name=config.model,
        notes=(*read.notes, *tokenizer_notes(tokenizer, model)),
    )


def prepare_files(
    config: ModelConfig,
    source: Source,
    device: torch.device,
    weights_dtype: torch.dtype,
    on_phase: OnPhase,
    gpus: int = 1,
) -> tuple[int | None, str]:
    """Count the parameters, refuse a model that is too large, and only then download it.

    gpus: over how many its weights are spread. Returns the parameters and the folder. None where
    the hub does not answer: a model that is in its cache loads without it.
    """
    if source.path is not None:
        if config.revision is not None:
            raise ModelError(
                f"The model “{config.model}” is a folder of this server and has no revision "
                f"“{config.revision}”. Only models of the hub have revisions; leave it out."
            )
        parameters = count_parameters(source.path)
        _refuse_if_too_large(config, parameters, device, weights_dtype, gpus)
        return parameters, source.location
    found = hub.look_up(source.location, config.revision)
    if found is None:
        return None, hub.cached(source.location, config.revision)
    _refuse_if_too_large(config, found.parameters, device, weights_dtype, gpus)
    return found.parameters, hub.download(found, on_phase)


def _refuse_if_too_large(
    config: ModelConfig,
    parameters: int,
    device: torch.device,
    weights_dtype: torch.dtype,
    gpus: int = 1,
) -> None:
    needed = parameters * _bytes_per_parameter(config, weights_dtype)
    if device.type == "cuda":
        available, _ = torch.cuda.mem_get_info(device)
        needed = math.ceil(needed / gpus)
    else:
        available = psutil.virtual_memory().available  # which all processes share
    if needed > available:
        where = f"each of {gpus} GPUs" if gpus > 1 and device.type == "cuda" else str(device)
        raise ModelError(
            f"The model “{config.model}” has {parameters / 1e6:,.0f} million parameters and needs "
            f"at least {needed / 2**30:.1f} GiB, but {where} has {available / 2**30:.1f} GiB "
            f"free. {_what_would_fit(config, parameters, device, available, gpus)}"
        )


def _what_would_fit(
    config: ModelConfig, parameters: int, device: torch.device, available: int, gpus: int
) -> str:
    """Advice, by what the weights and the optimizer need; activations come on top."""
    narrow = parameters * torch.bfloat16.itemsize
    if not isinstance(config, TrainConfig):
        fits = not isinstance(config, ObjectiveConfig) and config.dtype == "float32"
        advice = "dtype bfloat16, which would fit" if fits and narrow <= available else None
        return f"Choose {advice or 'a smaller model or another device'}."
    spread = gpus if device.type == "cuda" else 1
    adapters = parameters * torch.float32.itemsize
    choices = []
    if config.lora is None and adapters <= available * spread:
        choices.append(f"LoRA, whose weights need {adapters / spread / 2**30:.1f} GiB")
    if device.type == "cuda":
        whole = parameters * _bytes_per_parameter(config, torch.float32)
        more = math.ceil(whole / available)
        choices.append(f"{more} GPUs (`chesboard worker --gpus {more}`)")
    return f"Choose {', or '.join([*choices, 'a smaller model'])}."


def _bytes_per_parameter(config: ModelConfig, weights_dtype: torch.dtype) -> int:
    if isinstance(config, PreflightConfig):
        return 8  # float32 weight, and the optimizer's first step
    if isinstance(config, TrainConfig) and config.lora is None:
        # float32 weight and gradient, and the optimizer's state of each parameter.
        return 8 + {"adamw": 8, "rmsprop": 4, "sgd": 0}[config.optimizer]
    return weights_dtype.itemsize
