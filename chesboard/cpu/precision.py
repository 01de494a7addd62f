"""Precision on a CPU: which dtype products are computed in, and bfloat16 weights made to fit it.

`onednn.take_over` must have taken over the model's linear layers before.
"""

import torch
from torch import nn

from chesboard.cpu import onednn


def computes_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 (AMX or AVX-512 BF16).

    With AVX-512 BF16 a matrix product takes half the time of one in float32, with AMX far less.
    Without either PyTorch emulates it, at twice the time with AVX-512 and seven times with AVX2
    (measured).
    """
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


def computed_in(asked: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of matrix products: float32 where a CPU has no instructions for bfloat16."""
    if device.type == "cpu" and asked == torch.bfloat16 and not computes_bfloat16():
        return torch.float32
    return asked


def widen_stream(model: nn.Module, compute_dtype: torch.dtype = torch.bfloat16) -> None:
    """Make the residual stream float32: embeddings and norms get float32 weights.

    Matrix products stay in bfloat16, under autocast. Rounding the stream at each layer causes most
    of the error of scores in bfloat16: on pairs of one-word responses the rank correlation with
    float32 rises from .989 to .996, for 8 % more time (both measured).

    Where products are in float32 too, without autocast, only the layers that `onednn.take_over`
    took over read float32 with bfloat16 weights; every other weight is widened.
    """
    everything = compute_dtype == torch.float32
    for module in model.modules():
        if isinstance(module, onednn.Linear if everything else nn.Linear):
            continue
        for name, weight in list(module.named_parameters(recurse=False)):
            if everything or weight.ndim == 1 or isinstance(module, nn.Embedding):
                # A new parameter, so that an unembedding that shares it stays bfloat16.
                setattr(module, name, nn.Parameter(weight.float(), requires_grad=False))


@torch.no_grad()
def reads_narrow_weights(model: nn.Module) -> bool:
    """Whether a float32 stream goes through the bfloat16 layers: some models (Mamba) multiply by
    their layers' weights without calling the layers."""
    try:
        model(input_ids=torch.zeros(1, 2, dtype=torch.long), use_cache=False)
    except RuntimeError:
        return False
    return True
