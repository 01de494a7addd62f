"""Gradient checkpointing: decoder layers whose activations are computed once more, not kept.

transformers' own switch works in training mode only, which turns the model's dropout on; here the
model is in eval mode (see `worker.training.weights`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from chesboard.model import LoadedModel, causal_model


def recompute_layers(loaded: LoadedModel) -> None:
    """Let each layer keep its input alone wherever there is a gradient.

    The backward pass computes a layer again with the random numbers of the first time, so that
    gradients are the same to the last bit. Whoever runs the model with gradient must give it no KV
    cache: computing a layer again would append to it again.

    Raises:
        ValueError: transformers does not say what the model's layers are.
    """
    layers = [
        module
        for module in causal_model(loaded).modules()
        if isinstance(module, GradientCheckpointingLayer)
    ]
    if not layers:
        raise ValueError(
            f"gradient_checkpointing: transformers knows no layers of {type(loaded.model).__name__}"
            " that can be computed again. Train without it, with a smaller batch_tokens."
        )
    for layer in layers:
        # In place of `forward` rather than around the call: hooks of the layer (those of FSDP2
        # gather its weights) run once.
        layer.forward = partial(_recomputed, layer.forward)


def _recomputed(forward: Callable[..., Any], *args: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **named)
    return checkpoint(forward, *args, use_reentrant=False, **named)
