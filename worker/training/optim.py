"""Optimizers, learning-rate schedules and gradient clipping."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from chesboard.configs import TrainConfig
from chesboard.sharding import is_dtensor, whole_weight


def make_optimizer(parameters: Iterable[Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """torch's AdamW, RMSprop or SGD. No weight decay on vectors (norms and biases).

    RMSprop's running mean of squares starts at zero without bias correction, so its first update
    is about 10 learning rates times the gradient's sign (alpha is 0.99: 1 / sqrt(1 - alpha)).
    That is the optimizer of the CHES paper, unchanged.
    """
    assert config.learning_rate is not None, "the configuration fills it in"
    every = list(parameters)
    groups = [
        {"params": [p for p in every if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in every if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=config.learning_rate)
    # torch has no fused SGD of weights that are spread over processes.
    fused = not any(map(is_dtensor, every))
    return torch.optim.SGD(groups, lr=config.learning_rate, fused=fused)


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """The learning rate of optimizer step `step`, counted from 1.

    Warm-up rises linearly and reaches the full rate in the step after it. `linear` and `cosine`
    then decay toward zero, which they would reach one step after the last.
    """
    assert config.learning_rate is not None
    warmup = min(config.warmup_steps, total_steps)
    if step <= warmup:
        return config.learning_rate * step / (warmup + 1)
    progress = (step - 1 - warmup) / max(1, total_steps - warmup)
    if config.scheduler == "linear":
        return config.learning_rate * (1 - progress)
    if config.scheduler == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_gradients(parameters: Iterable[Parameter], max_norm: float | None) -> Tensor:
    """Clip gradients in place by their global norm; returns the norm before clipping.

    max_norm None: only measured.
    """
    # One norm over the concatenation of all gradients (L2); they are all scaled by the same factor
    # max_norm / norm if it is exceeded, so their direction stays.
    parameters = [p for p in parameters if p.grad is not None]
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if max_norm is not None:
        clip_grads_with_norm_(parameters, max_norm, norm)
    return whole_weight(norm)
