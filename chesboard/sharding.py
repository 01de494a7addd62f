"""Weights that a trainer spreads over processes: whole where they are read, and as they were after.

FSDP2 keeps a weight as a DTensor, DeepSpeed's ZeRO-3 as a part with a `ds_id`. To gather one is a
collective: every process of the group has to do it, in the same order.
"""

import gc
import sys
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

T = TypeVar("T")

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
        if is_dtensor(weight):
            return "tensors"
    return "none"


def is_dtensor(weight: Tensor) -> bool:
    """Whether the weight is a DTensor, of which this process has a part."""
    return hasattr(weight, "full_tensor")


def whole_weight(weight: Tensor) -> Tensor:
    """The weight itself where this process has all of it, else gathered from all: a collective."""
    if is_dtensor(weight):
        return cast(Tensor, cast(Any, weight).full_tensor())
    if hasattr(weight, "ds_id") and getattr(weight, "ds_tensor", None) is not None:
        import deepspeed

        if cast(Any, weight).ds_status.name == "INFLIGHT":
            return _from_parts(weight)
        with deepspeed.zero.GatheredParameters([weight]):
            return weight.detach().clone()
    return weight


def _from_parts(weight: Tensor) -> Tensor:
    """A weight of ZeRO-3's that DeepSpeed has begun to gather for a layer which comes later, and
    which alone can wait for it: each process has a part of it in order, and the last some padding.
    """
    of = cast(Any, weight)
    part = of.ds_tensor.detach().to(weight.device)
    parts = [torch.empty_like(part) for _ in range(of.ds_process_group.size())]
    torch.distributed.all_gather(parts, part, group=of.ds_process_group)
    return torch.cat(parts)[: of.ds_numel].view(of.ds_shape)


def own_part(weight: Tensor) -> Tensor:
    """What this process has of a weight."""
    return cast(Tensor, cast(Any, weight).to_local()) if is_dtensor(weight) else weight


def part_like(whole: Tensor, weight: Tensor) -> Tensor:
    """The part of a whole tensor that this process holds of a weight of its shape; all of it where
    the weight is whole, or the tensor a number."""
    if not is_dtensor(weight) or whole.shape != weight.shape:
        return whole
    from torch.distributed.tensor import distribute_tensor

    of = cast(Any, weight)
    # Every process has the whole tensor, so none is to send it.
    return distribute_tensor(whole, of.device_mesh, of.placements, src_data_rank=None)


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


WORK = "_chesboard_work"


def in_root_forward(model: nn.Module, work: Callable[[], tuple[Tensor, ...] | None]) -> None:
    """Call `work` as if it were the forward pass of a model that FSDP2 shards: blocks gather their
    weights as ever, and weights outside of them can be read.

    work: returns the tensors that a backward pass begins at, as a tuple: FSDP2 waits for the
    gradients of these, and finds none in an object of a class.
    """
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

    # Adapters may be around the root.
    root = next(module for module in model.modules() if isinstance(module, FSDPModule))
    setattr(root, WORK, work)
    try:
        register_fsdp_forward_method(cast(nn.Module, root), WORK)
        getattr(root, WORK)()
    finally:
        delattr(root, WORK)


def wrapper_around(model: nn.Module) -> nn.Module | None:
    """What FSDP version 1 has put around a whole model, or the model where it is that; None where
    only parts of it are wrapped. Hugging Face's trainers hand over what is within, from where
    nothing leads to the wrapper: it is looked for among all objects."""
    from torch.distributed.fsdp import FullyShardedDataParallel as Wrapper

    if isinstance(model, Wrapper):
        return model
    wrappers = (one for one in gc.get_objects() if type(one) is Wrapper)
    return next((one for one in wrappers if one.module is model), None)


def in_wrapped_forward(root: nn.Module, work: Callable[[], None]) -> None:
    """Call `work` in the place of the forward pass of the model in FSDP version 1's wrapper:
    weights outside of its blocks are gathered, and blocks gather theirs as ever. The former stay
    gathered until the next backward pass, as after any pass without one."""
    module = cast(Any, root).module
    failed: list[Exception] = []

    def instead(_: None) -> None:
        del module.forward  # what `work` calls is the model's own
        try:
            work()
        except Exception as error:  # else FSDP would take the next pass for a part of this one
            failed.append(error)

    module.forward = instead
    try:
        root(None)  # torch 2.6 needs an argument
    finally:
        vars(module).pop("forward", None)
    if failed:
        raise failed[0]


def reshard(model: nn.Module) -> None:
    """Let go of every gathered weight: it would be an old one after the next training step."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def within(model: nn.Module, look: Callable[[], None]) -> None:
    """Call `look` where all weights outside of the model's blocks can be read; afterwards every
    weight is sharded again."""
    kind = sharding_of(model)
    if kind == "fsdp1":
        in_wrapped_forward(model, look)
        return
    if kind != "fsdp2":
        look()
        return
    try:
        in_root_forward(model, look)
    finally:
        reshard(model)


def is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def agreed(value: Any) -> Any:
    """The first process's value, in every process: a collective."""
    if not is_distributed() or torch.distributed.get_world_size() == 1:
        return value
    held = [value]
    torch.distributed.broadcast_object_list(held, src=0)
    return held[0]


def gathered(value: T) -> list[T]:
    """Every process's value, in the order of the processes: a collective."""
    if not is_distributed() or torch.distributed.get_world_size() == 1:
        return [value]
    held: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(held, value)
    return held
