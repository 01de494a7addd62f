"""What a run asks for by its configuration, as `chesboard.capacity.estimate` counts it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from chesboard.capacity.estimate import FLOAT32, Needs, Part, Remedy, Setup, estimate, remedies
from chesboard.capacity.shape import ModelSize
from chesboard.configs import (
    EvaluateConfig,
    ForwardOnlyConfig,
    GenerateConfig,
    ModelConfig,
    ObjectiveConfig,
    PreflightConfig,
    RunConfig,
    ScoreConfig,
    TrainConfig,
)

Device = Literal["cpu", "cuda"]
GB = 1e9
MEMORY_SHARE = 0.9
"""Share of a device's memory up to which a run fits; the rest is for libraries and what is lost
between blocks."""


def setup_of(
    config: RunConfig,
    model: ModelSize,
    device: Device,
    longest: int | None = None,
    beside: int = 0,
) -> Setup | None:
    """None for runs that hold no language model.

    longest: tokens of the longest row of the dataset, where something is known of it: of a prompt
    with both responses. beside: bytes of another model that the run holds.
    """
    if not isinstance(
        config, ScoreConfig | EvaluateConfig | TrainConfig | PreflightConfig | GenerateConfig
    ):
        return None
    computed = _computed(config, device)
    row = _row_limit(config)
    row = row if longest is None else min(row, longest)
    setup = Setup(
        work="score",
        model=model,
        device=device,
        weights=FLOAT32 if isinstance(config, ObjectiveConfig) else computed,
        computed=computed,
        batch_tokens=config.batch_tokens,
        longest=row,
        beside=beside,
    )
    match config:
        case TrainConfig():
            return _training(setup, config)
        case PreflightConfig():
            # One response after the other, each alone in a pass.
            return replace(setup, work="preflight", batch_tokens=row)
        case GenerateConfig():
            cached = max(config.batch_tokens, row)
            return replace(setup, work="generate", cached_tokens=cached)
    return replace(setup, streamed=config.stream == "always")


def _training(setup: Setup, config: TrainConfig) -> Setup:
    lora = config.lora
    targets = None if lora is None else lora.target_modules
    return replace(
        setup,
        work="train",
        batch_tokens=min(config.batch_tokens, config.batch_size * setup.longest),
        optimizer=config.optimizer,
        lora_rank=None if lora is None else lora.rank,
        target_modules=None if targets is None or isinstance(targets, str) else tuple(targets),
        gradient_checkpointing=bool(getattr(config, "gradient_checkpointing", False)),
    )


def _computed(config: ModelConfig, device: Device) -> int:
    auto = "bfloat16" if device == "cuda" else "float32"
    return {"float32": FLOAT32, "bfloat16": 2}[auto if config.dtype == "auto" else config.dtype]


def _row_limit(config: ModelConfig) -> int:
    if isinstance(config, GenerateConfig):
        return config.max_prompt_tokens + config.answer_tokens
    return config.max_prompt_tokens + 2 * config.max_response_tokens


def fitting(config: RunConfig, setup: Setup, room: int) -> tuple[Setup, Needs]:
    """The setup with which a run would be computed in so many bytes: layer by layer, where it may
    be and does not fit otherwise."""
    needs = estimate(setup)
    may_stream = isinstance(config, ForwardOnlyConfig) and config.stream == "auto"
    if may_stream and needs.certain > room and setup.model.largest_layer:
        setup = replace(setup, streamed=True)
        needs = estimate(setup)
    return setup, needs


def remedies_for(config: RunConfig, setup: Setup, room: int, gpus: int = 1) -> list[Remedy]:
    """What would make a run fit into so many bytes, of what its configuration can say; nothing
    where it does."""
    share = int(MEMORY_SHARE * room)
    if estimate(setup).total <= share:
        return []
    return remedies(setup, share, type(config).model_fields, gpus)


def in_words(parts: Sequence[Part]) -> str:
    """ "weights 6.2 GB, gradients 6.2 GB, activations 0.4 GB": those of a hundredth and more."""
    total = sum(part.bytes for part in parts)
    shown = [part for part in parts if part.bytes >= total / 100] or list(parts[:1])
    return ", ".join(f"{part.name} {gigabytes(part.bytes)}" for part in shown)


def gigabytes(size: float) -> str:
    """ "17 GB", "6.2 GB", "0.54 GB", "12 MB"."""
    if size < GB / 10:
        return f"{size / 1e6:,.0f} MB"
    value = size / GB
    return f"{value:,.0f} GB" if value >= 10 else f"{value:.{1 if value >= 1 else 2}f} GB"
