"""Precision on a CPU: what the processor multiplies fast, and float32 between bfloat16 layers."""

from collections.abc import Callable

import torch

from chesboard.cpu.onednn import OneDNNLinear
from chesboard.cpu.processor import capabilities


def computes_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16. With AVX-512 BF16 a matrix product
    takes half the time of one in float32, with AMX far less. Without either PyTorch emulates it,
    and takes two times as long with AVX-512 and seven times with AVX2 (measured).
    """
    processor = capabilities()
    return any(processor.get(name) for name in ("amx_bf16", "avx512_bf16"))


def computed_in(asked: torch.dtype, device: torch.device) -> torch.dtype:
    """The precision of matrix products: float32 where the processor has no other."""
    if device.type == "cpu" and asked == torch.bfloat16 and not computes_bfloat16():
        return torch.float32
    return asked


def adapt(
    model: torch.nn.Module,
    compute_dtype: torch.dtype,
    before_widening: Callable[[], None] | None = None,
) -> None:
    """Let a model with bfloat16 weights compute in `compute_dtype`, with float32 between layers.

    A model with float32 weights is left as it is. `chesboard.cpu.onednn` must be installed. A model
    that cannot compute in float32 with bfloat16 weights gets float32 weights, after a call of
    `before_widening`, which may raise.
    """
    if not any(parameter.dtype == torch.bfloat16 for parameter in model.parameters()):
        return
    widen_stream(model, compute_dtype)
    if compute_dtype == torch.float32 and not _accepts_float32(model):
        if before_widening is not None:
            before_widening()
        _widen(model)


def _widen(model: torch.nn.Module) -> None:
    """float32 copies of all parameters, shared where they were: `model.float()` would change the
    parameter objects themselves, which a caller may hold."""
    copies: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            # PyTorch may choose another kernel, with other last digits, by requires_grad.
            copy = torch.nn.Parameter(weight.detach().float(), requires_grad=weight.requires_grad)
            setattr(module, name, copies.setdefault(id(weight), copy))


def widen_stream(model: torch.nn.Module, compute_dtype: torch.dtype = torch.bfloat16) -> None:
    """Make the residual stream between the layers float32, by float32 embeddings and norms.

    Matrix products are still in bfloat16, under autocast. Sums that are rounded at each layer make
    most of the error of scores in bfloat16: on pairs of one-word responses the rank correlation
    with float32 is .996 in place of .989, for 8 % more time (both measured).

    Where products are in float32 too, without autocast, only the layers that `onednn.install`
    replaced read float32 with bfloat16 weights. Every other weight is widened then.
    """
    everything = compute_dtype == torch.float32
    for module in model.modules():
        if isinstance(module, OneDNNLinear if everything else torch.nn.Linear):
            continue
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.dtype == torch.float32:
                continue
            if everything or weight.ndim == 1 or isinstance(module, torch.nn.Embedding):
                # A new parameter, so that an unembedding that shares it stays narrow.
                setattr(module, name, torch.nn.Parameter(weight.float(), requires_grad=False))


@torch.no_grad()
def _accepts_float32(model: torch.nn.Module) -> bool:
    """Whether float32 goes through the model: some (Mamba) multiply by their layers' weights
    themselves, outside of the layers' forward."""
    try:
        model(input_ids=torch.zeros(1, 2, dtype=torch.long), use_cache=False)
    except RuntimeError:
        return False
    return True
