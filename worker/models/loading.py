"""Loading a model onto a device: choice of device and precision, memory check, eval mode.

Weights are read from safetensors only, and no code that comes with a model is run.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from chesboard import cpu
from chesboard.capacity.estimate import Setup, estimate
from chesboard.capacity.shape import ModelSize
from chesboard.causal_lm import ModelError, placed, read_causal_lm, unusable
from chesboard.configs import ModelConfig, ObjectiveConfig
from chesboard.forward.layer_stream import stream_of
from chesboard.forward.streamed import read_streamed
from chesboard.loading import DTYPES, read_tokenizer, tokenizer_notes, why_streamed
from chesboard.memory import free_bytes
from chesboard.model import LoadedModel
from chesboard.needs import in_words, remedies_for, setup_of
from worker.models import hub
from worker.models.files import Source
from worker.models.progress import OnPhase, tensors_reported

MOST_PACKED = 16
"""Parameters that quantized weights hold in one number of their files, at most."""


def describe_device(device: torch.device) -> str:
    """For people: "cuda:0 (NVIDIA H100, 80 GiB)", "cpu (2 threads)"."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'' if threads == 1 else 's'})"


def describe_loaded(loaded: LoadedModel) -> str:
    """On which device a run computes, in which precision, and whether all of the model is there."""
    dtype = str(loaded.compute_dtype).removeprefix("torch.")
    streamed = "" if stream_of(loaded.model) is None else ", one layer at a time"
    return f"{describe_device(loaded.device)}, {dtype}{streamed}"


def describe_rounding(loaded: LoadedModel) -> str:
    """For people, what rounds a run's numbers: "cpu in float32", "NVIDIA H100 in bfloat16"."""
    device, name = loaded.device, loaded.device.type
    if device.type == "cuda":
        name = torch.cuda.get_device_properties(device).name
    return f"{name} in {str(loaded.compute_dtype).removeprefix('torch.')}"


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
    found = prepare_files(config, source, device, weights_dtype, on_phase)
    on_phase("loading")
    tokenizer = read_tokenizer(config.model, found.location, source.adapter)
    with tensors_reported(on_phase, "loading"):
        if found.streamed is None:
            read = read_causal_lm(config.model, found.location, weights_dtype, source.adapter)
            model = placed(config.model, read.model, device)
        else:
            read = read_streamed(config.model, Path(found.location), weights_dtype, device)
            model = read.model
    if isinstance(config, ObjectiveConfig):
        refuse_if_quantized(config.model, model)

    def refuse_if_too_large_when_widened() -> None:
        if found.streamed is None:  # else each layer is widened by itself
            setup = _setup(config, found.size, device, torch.float32)
            _refuse_if_too_large(config, setup, device)

    cpu.install(
        model,
        compute_dtype=compute_dtype,
        blockwise_attention=not isinstance(config, ObjectiveConfig),
        before_widening=refuse_if_too_large_when_widened,
    )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        compute_dtype=compute_dtype,
        name=config.model,
        notes=(
            *filter(None, [found.streamed]),
            *read.notes,
            *tokenizer_notes(tokenizer, model),
        ),
    )


def refuse_if_quantized(name: str, model: Any) -> None:
    """Raises:
    ModelError: the model cannot be trained.
    """
    if getattr(model, "is_quantized", False):
        raise unusable(
            name,
            "Its weights are quantized, and such have no gradients to train by: take the model in "
            "its original precision.",
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where a model's files are, how large it is, and why its layers are read one by one, if they
    are."""

    location: str
    size: ModelSize
    streamed: str | None


def prepare_files(
    config: ModelConfig,
    source: Source,
    device: torch.device,
    weights_dtype: torch.dtype,
    on_phase: OnPhase,
    gpus: int = 1,
) -> Prepared:
    """Find the model's size, refuse one that is too large, and only then download it.

    gpus: over how many its weights are spread.

    Raises:
        ModelError: it is too large, cannot be downloaded, or its configuration is that of a much
            larger model.
        RunStoppedError: `on_phase` raised it.
    """
    found = _find_files(config, source, device, weights_dtype, on_phase, gpus)
    _refuse_if_inflated(config.model, size_of(Path(found.location)))
    return found


def _find_files(
    config: ModelConfig,
    source: Source,
    device: torch.device,
    weights_dtype: torch.dtype,
    on_phase: OnPhase,
    gpus: int,
) -> Prepared:
    def prepared(location: str, size: ModelSize) -> Prepared:
        setup = _setup(config, size, device, weights_dtype, gpus)
        streamed = why_streamed(config, lambda: estimate(setup).certain, device, source.adapter)
        if streamed is None:
            _refuse_if_too_large(config, setup, device)
        return Prepared(location, size, streamed)

    if source.path is not None:
        if config.revision is not None:
            raise ModelError(
                f"The model “{config.model}” is a folder of this server and has no revision "
                f"“{config.revision}”. Only models of the hub have revisions; leave it out."
            )
        return prepared(source.location, size_of(source.path))
    found = hub.look_up(source.location, config.revision, on_phase)
    if found is None:  # the hub does not answer: a model that is in its cache loads without it
        folder = hub.cached(source.location, config.revision)
        return prepared(folder, size_of(Path(folder)))
    if_downloaded = prepared(source.location, ModelSize.of_parameters(found.parameters))
    return replace(if_downloaded, location=hub.download(found, on_phase))


def size_of(folder: Path) -> ModelSize:
    """The size of a model by its headers; where they cannot be read, loading says why."""
    return ModelSize.at(folder) or ModelSize.of_parameters(0)


def _refuse_if_inflated(name: str, size: ModelSize) -> None:
    """What the files lack of a matrix would be made first, of any size, and refused then."""
    shape = size.shape
    if shape is None:
        return
    largest = shape.hidden * max(shape.vocabulary, shape.inner, shape.attended)
    if largest > MOST_PACKED * size.parameters:
        raise unusable(
            name,
            f"Its config.json describes a matrix of {largest / 1e6:,.0f} million parameters, and "
            f"its files hold {size.parameters / 1e6:,.3g} million in all: they belong to different "
            "models, or one of them is damaged.",
        )


def _setup(
    config: ModelConfig,
    size: ModelSize,
    device: torch.device,
    weights_dtype: torch.dtype,
    gpus: int = 1,
) -> Setup:
    is_cuda = device.type == "cuda"
    setup = setup_of(config, size, "cuda" if is_cuda else "cpu")
    assert setup is not None, "a run that loads a language model"
    # Processes on a CPU share its memory.
    return replace(setup, weights=weights_dtype.itemsize, gpus=gpus if is_cuda else 1)


def _refuse_if_too_large(config: ModelConfig, setup: Setup, device: torch.device) -> None:
    """By what is certain before a forward pass: weights, gradients and the optimizer's state."""
    needs, available = estimate(setup), free_bytes(device)
    if needs.certain <= available:
        return
    most_gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    would_fit = [one.words for one in remedies_for(config, setup, available, most_gpus)]
    advice = (
        f"It would fit with {', or with '.join(would_fit)}. Or choose" if would_fit else "Choose"
    )
    where = f"each of {setup.gpus} GPUs" if setup.gpus > 1 else str(device)
    raise ModelError(
        f"The model “{config.model}” has {setup.model.parameters / 1e6:,.0f} million parameters "
        f"and needs at least {needs.certain / 2**30:.1f} GiB, but {where} has "
        f"{available / 2**30:.1f} GiB free ({in_words(needs.parts)}). {advice} a smaller model or "
        "another device."
    )
