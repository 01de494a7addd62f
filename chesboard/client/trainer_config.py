"""What a Hugging Face trainer's arguments say of a training."""

from collections.abc import Mapping
from typing import Any

import torch

from chesboard.client.choosing import Cut

OBJECTIVES = {
    "sigmoid": "dpo",
    "hinge": "slic",
    "ipo": "ipo",
    "robust": "dpo",
    "apo_zero": "apo_zero",
    "sft": "cross_entropy",
    "nll": "cross_entropy",
}
"""TRL's names of losses that have one of ours; others keep their own."""

WITHOUT_REFERENCE = ("CPOConfig", "ORPOConfig", "SFTConfig", "SFTTrainingArguments")
"""Arguments of trainers whose rewards are no changes against a reference."""

PER_TOKEN = ("ipo", "simpo", "orpo")
"""Losses over log-probabilities per token, which their trainers log, too; of ipo it depends on the
trainer and its version."""

KEPT = (
    *("learning_rate", "max_steps", "num_train_epochs", "per_device_train_batch_size"),
    *(
        "gradient_accumulation_steps",
        "gradient_checkpointing",
        "bf16",
        "fp16",
        "seed",
        "max_length",
    ),
    *("world_size", "warmup_steps", "weight_decay", "max_grad_norm", "label_smoothing"),
)


def trainer_config(args: Any, max_steps: int) -> dict[str, Any]:
    """The part of a run's configuration that a trainer's arguments know.

    args: transformers.TrainingArguments or what is made of it. max_steps: of the whole training.
    """
    kind = type(args)
    package = kind.__module__.partition(".")[0]
    config: dict[str, Any] = {"trainer": f"{package} {kind.__name__}"}
    for name in KEPT:
        value = getattr(args, name, None)
        if isinstance(value, int | float | bool | str):
            config[name] = value
    config["max_steps"] = max_steps
    loss = getattr(args, "loss_type", None)
    if isinstance(loss, list | tuple) and loss:
        config["loss_type"] = list(map(str, loss))
        loss = loss[0]
    if isinstance(loss, str):
        config["objective"] = OBJECTIVES.get(loss, loss)
    for ours, theirs in (("scheduler", "lr_scheduler_type"), ("optimizer", "optim")):
        if (value := getattr(args, theirs, None)) is not None:
            config[ours] = str(getattr(value, "value", value))
    beta = getattr(args, "beta", None)
    if isinstance(beta, int | float):
        config["beta"] = float(beta)
        if kind.__name__ in WITHOUT_REFERENCE:
            config["reward_beta"] = None
    return config


def averages_logprobs(config: Mapping[str, Any]) -> bool:
    """Whether the log-probabilities that a trainer logs may be means over tokens, and not sums."""
    has_own_loss = str(config.get("trainer", "")).endswith("ORPOConfig")  # it names none
    return has_own_loss or config.get("objective") in PER_TOKEN


def cut_of(args: Any) -> Cut:
    """How TRL's collator cuts a row."""
    tokens = getattr(args, "max_length", None)
    keep = getattr(args, "truncation_mode", "keep_start")
    return Cut(tokens if isinstance(tokens, int) else None, str(keep))


def compute_dtype(args: Any) -> torch.dtype | None:
    """What forward passes compute in; None: as the weights."""
    if getattr(args, "bf16", False):
        return torch.bfloat16
    return torch.float16 if getattr(args, "fp16", False) else None


def run_name(args: Any) -> str | None:
    """The run's name, where its user gave one: older versions put the output folder there."""
    name = getattr(args, "run_name", None)
    return name if name and name != getattr(args, "output_dir", None) else None
