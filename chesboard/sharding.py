"""Weights that a trainer spreads over processes: whole where they are read, and as they were after.

FSDP2 keeps a weight as a DTensor, DeepSpeed's ZeRO-3 as a part with a `ds_id`. To gather one is a
collective: every process of the group has to do it, in the same order.
"""

import sys
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

Sharding = Literal["none", "fsdp1", "fsdp2", "zero3", "tensors"]
"""tensors: DTensors of other kinds, such as tensor parallelism."""


def sharding_of(model: nn.Module) -> Sharding:
    """How the model's weights are spread over processes."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None:
        modules = list(model.modules())
        if any(isinstance(module, fsdp.FullyShardedDataParallel) for module in modules):
            return "fsdp1"
        if any(isinstance(module, fsdp.FSDPModule) for module in modules):
            return "fsdp2"
    for weight in model.parameters():
        if hasattr(weight, "ds_id"):
            return "zero3"
        if hasattr(weight, "full_tensor"):
            return "tensors"
    return "none"


def whole_weight(weight: Tensor) -> Tensor:
    """The weight itself where this process has all of it, else gathered from all: a collective."""
    if hasattr(weight, "full_tensor"):
        return cast(Tensor, weight.full_tensor())
    if hasattr(weight, "ds_id") and getattr(weight, "ds_tensor", None) is not None:
        import deepspeed

        with deepspeed.zero.GatheredParameters([weight]):
            return weight.detach().clone()
    return weight


def whole_shape(weight: Tensor) -> torch.Size:
    """The shape of the whole weight: ZeRO-3 leaves an empty tensor in its place."""
    shape: torch.Size = getattr(weight, "ds_shape", weight.shape)
    return shape


def layer_class(layer: nn.Module) -> type[nn.Module]:
    """The layer's class, without what `fully_shard` puts before it (FSDPLinear)."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None or not isinstance(layer, fsdp.FSDPModule):
        return type(layer)
    mine = type(layer).__mro__
    return next(kind for kind in mine[1:] if not issubclass(kind, fsdp.FSDPModule))


LOOK = "_chesboard_look"


def within(model: nn.Module, look: Callable[[], None]) -> None:
    """Call `look` where all weights outside of the model's blocks can be read.

    Under FSDP2 it runs as a forward pass of the root, so that blocks gather their weights as ever;
    afterwards every weight is sharded again, or the next training step would read old ones.
    """
    if sharding_of(model) != "fsdp2":
        look()
        return
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

    setattr(model, LOOK, look)
    try:
        register_fsdp_forward_method(model, LOOK)
        getattr(model, LOOK)()
    finally:
        delattr(model, LOOK)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def agreed(value: Any) -> Any:
    """The first process's value, in every process: a collective."""
    if not is_distributed() or torch.distributed.get_world_size() == 1:
        return value
    held = [value]
    torch.distributed.broadcast_object_list(held, src=0)
    return held[0]
