"""Leaving a training as it was: what a look at the model may touch is put back to the last bit."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from chesboard.forward.rope import length_dependent_rope


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """The model in eval mode without gradient; afterwards everything is as it was.

    Put back are the training flag of every module, the random generators of Python, numpy, the CPU
    and the model's devices, rotary frequencies that depend on what was read before, gradient mode
    and autocast. An autocast of the caller's does not hold within, and its cache of rounded weights
    is neither read nor written: a weight that was rounded without gradient would get none later.
    """
    modules = [(module, module.training) for module in model.modules()]
    with ExitStack() as stack:
        stack.enter_context(_random_state(model))
        stack.enter_context(_rotary_state(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_without_autocast(model))
        try:
            for module, _ in modules:
                # Not by eval(): some modules do more in it, such as merging weights.
                module.training = False
            yield
        finally:
            for module, training in modules:
                module.training = training


@contextmanager
def _random_state(model: nn.Module) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        # Each forks the generator of the CPU too.
        for kind, indices in _devices(model).items():
            stack.enter_context(torch.random.fork_rng(devices=indices, device_type=kind))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _devices(model: nn.Module) -> dict[str, list[int]]:
    """The indices of the model's devices by their type; of `cuda`, without any, none."""
    found: dict[str, set[int]] = {}
    for weight in model.parameters():
        device = weight.device
        if device.type not in ("cpu", "meta"):
            found.setdefault(device.type, set()).add(device.index or 0)
    return {kind: sorted(indices) for kind, indices in found.items()} or {"cuda": []}


@contextmanager
def _rotary_state(model: nn.Module) -> Iterator[None]:
    """Dynamic NTK goes by the longest text so far, and a look has texts of its own."""
    rope = length_dependent_rope(model)
    kept = [
        (module, dict(vars(module)), dict(module._buffers))
        for module in (rope.modules if rope is not None else ())
    ]
    try:
        yield
    finally:
        for module, attributes, buffers in kept:
            vars(module).update(attributes)
            module._buffers.update(buffers)


@contextmanager
def _without_autocast(model: nn.Module) -> Iterator[None]:
    kinds = {weight.device.type for weight in model.parameters()} - {"meta"}
    cached = torch.is_autocast_cache_enabled()
    with ExitStack() as stack:
        for kind in sorted(kinds):
            stack.enter_context(torch.autocast(kind, enabled=False))
        torch.set_autocast_cache_enabled(False)
        try:
            yield
        finally:
            torch.set_autocast_cache_enabled(cached)
