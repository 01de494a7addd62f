"""The weights that a run trains: all of them in float32, or LoRA adapters on frozen ones."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from peft import PeftModel

from chesboard.configs import LoraConfig, TrainConfig
from chesboard.model import LoadedModel
from chesboard.reporting import Reporter
from chesboard.sharding import whole_weight
from worker.training.recomputing import recompute_layers


def prepare_model(
    loaded: LoadedModel, lora: LoraConfig | None, *, gradient_checkpointing: bool = False
) -> None:
    """Make `loaded.model` trainable, in place; with `lora` it becomes a model with adapters.

    Raises:
        ValueError: gradient checkpointing, and the model does not support it.
    """
    if lora is None:
        # Master weights: the optimizer updates float32 weights. Where the run computes in
        # bfloat16, autocast rounds a copy of them for each matrix product.
        if any(parameter.dtype != torch.float32 for parameter in loaded.model.parameters()):
            loaded.model.float()
        loaded.model.requires_grad_(True)
    else:
        # Only adapters are trained, and peft keeps these in float32 itself.
        loaded.model = add_adapters(loaded.model, lora)
    # Eval mode turns the model's own dropout off, so that the log-probabilities of a training
    # step are those of a measurement.
    loaded.model.eval()
    if gradient_checkpointing:
        recompute_layers(loaded)


def add_adapters(model: Any, lora: LoraConfig) -> Any:
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    return get_peft_model(
        model,
        PeftLoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules,
            task_type="CAUSAL_LM",
        ),
    )


def merge_adapters(model: torch.nn.Module) -> torch.nn.Module:
    """The trained model without adapters: they are added to the weights that they adapt."""
    if isinstance(model, PeftModel):
        merged: torch.nn.Module = model.merge_and_unload()
        return merged
    return model


@contextmanager
def adapter_dropout(model: Any) -> Iterator[None]:
    """Turn on the adapters' dropout for a training step; the model's own stays off."""
    dropouts = [module for name, module in model.named_modules() if "lora_dropout" in name]
    for module in dropouts:
        module.train()
    try:
        yield
    finally:
        for module in dropouts:
            module.eval()


def reference_model(loaded: LoadedModel) -> AbstractContextManager[Any]:
    """Disable the adapters, if any. A model that is trained whole is its own reference at first."""
    if hasattr(loaded.model, "peft_config"):
        disabled: AbstractContextManager[Any] = loaded.model.disable_adapter()
        return disabled
    return nullcontext()


@torch.no_grad()
def report_rounding(
    loaded: LoadedModel, config: TrainConfig, steps: int, reporter: Reporter
) -> None:
    """Warn if the whole run moves weights by less than their rounding in bfloat16.

    The float32 weights keep such changes, but a forward pass in bfloat16 sees only those that
    reach the next representable number (8 bits of precision), so the measured curves are rougher
    than the training is.
    """
    if loaded.compute_dtype != torch.bfloat16 or config.lora is not None:
        return
    matrices = [p for p in loaded.model.parameters() if p.ndim >= 2]
    size = sum(whole_weight(p.abs().sum(dtype=torch.float64)).item() for p in matrices)
    mean = size / sum(p.numel() for p in matrices)
    assert config.learning_rate is not None
    # Adam and RMSprop move a weight by about the learning rate a step; rounding to nearest is off
    # by up to half of eps times the weight.
    moved, rounding = config.learning_rate * steps, mean * torch.finfo(torch.bfloat16).eps / 2
    if config.optimizer != "sgd" and moved < rounding:
        reporter.message(
            f"{steps} steps at a learning rate of {config.learning_rate:g} move a weight by about "
            f"{moved:.0e} at most, less than it is rounded by in bfloat16 ({rounding:.0e}). The "
            "weights are kept in float32 and lose nothing, but the measurements are rougher than "
            "the training: choose dtype float32 for smooth curves."
        )
