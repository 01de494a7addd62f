"""Log-probabilities at chosen positions, without logits of the whole batch in memory.

Dimensions: U positions, V vocabulary, D hidden size.

The one function here serves scoring, training and probes. It equals

    torch.log_softmax((hidden_UD @ weight_VD.T + bias_V).float(), -1).gather(-1, targets_U2)

but goes over the positions in chunks, and computes the logits of a chunk again on the way back
unless all of them are small enough to be kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 512 << 20}
"""Size of one chunk's float32 logits."""
KEEP_BYTES = {"cpu": 512 << 20, "cuda": 1 << 30}
"""Logits up to this size are kept for the backward pass, which then is a third shorter."""


@dataclass(frozen=True, slots=True)
class Head:
    """The unembedding: logits = hidden @ weight.T + bias, computed in `dtype`."""

    weight_VD: Tensor
    bias_V: Tensor | None
    dtype: torch.dtype


def head_logits(head: Head, hidden_UD: Tensor) -> Tensor:
    """float32 logits_UV of a few positions, all at once, without gradient."""
    with torch.no_grad(), _plain_arithmetic(hidden_UD):
        bias = None if head.bias_V is None else head.bias_V.to(head.dtype)
        return torch.nn.functional.linear(
            hidden_UD.to(head.dtype), head.weight_VD.to(head.dtype), bias
        ).float()


def token_logprobs(head: Head, hidden_UD: Tensor, targets_U2: Tensor) -> Tensor:
    """float32 logprobs_U2: at each position the log-probability of two tokens.

    Two, because the responses of a pair share the positions up to their fork. Gradients reach
    hidden states, weight and bias.
    """
    result: Tensor = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden_UD, head.weight_VD, head.bias_V, targets_U2, head.dtype
    )
    return result


def logprobs_of_logits(logits_UV: Tensor, targets_U2: Tensor) -> Tensor:
    """The same from logits that are there already."""
    logits_UV = logits_UV.float()
    return logits_UV.gather(1, targets_U2) - logits_UV.logsumexp(1, keepdim=True)


def _plain_arithmetic(like: Tensor) -> torch.autocast:
    """Autocast off: this module chooses the dtype of each product itself."""
    return torch.autocast(like.device.type, enabled=False)


def _chunks(positions: int, vocabulary: int, device: torch.device) -> Iterator[slice]:
    size = max(1, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"]) // (4 * vocabulary))
    return (slice(start, start + size) for start in range(0, positions, size))


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_UD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_U2: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        vocabulary, device = weight_VD.shape[0], hidden_UD.device
        keep_bytes = KEEP_BYTES.get(device.type, KEEP_BYTES["cpu"])
        keep = any(ctx.needs_input_grad) and len(hidden_UD) * vocabulary * 4 <= keep_bytes
        logprobs_U2 = hidden_UD.new_empty((len(hidden_UD), 2), dtype=torch.float32)
        normaliser_U = hidden_UD.new_empty(len(hidden_UD), dtype=torch.float32)
        kept: list[Tensor] = []
        with _plain_arithmetic(hidden_UD):
            cast_VD = weight_VD.to(dtype)
            for chunk in _chunks(len(hidden_UD), vocabulary, device):
                logits_CV = _logits(hidden_UD[chunk].to(dtype), cast_VD, bias_V)
                normaliser_U[chunk] = logits_CV.logsumexp(1)
                logprobs_U2[chunk] = (
                    logits_CV.gather(1, targets_U2[chunk]) - normaliser_U[chunk, None]
                )
                if keep:
                    kept.append(logits_CV)
        ctx.dtype = dtype
        ctx.kept = kept
        ctx.save_for_backward(hidden_UD, weight_VD, bias_V, targets_U2, normaliser_U)
        return logprobs_U2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_U2: Tensor) -> tuple[Tensor | None, ...]:
        hidden_UD, weight_VD, bias_V, targets_U2, normaliser_U = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden_UD = torch.empty_like(hidden_UD) if wants_hidden else None
        grad_weight_VD = torch.zeros_like(weight_VD) if wants_weight else None
        grad_bias_V = torch.zeros_like(bias_V) if wants_bias else None
        with _plain_arithmetic(hidden_UD):
            cast_VD = weight_VD.to(ctx.dtype)
            chunks = _chunks(len(hidden_UD), len(weight_VD), hidden_UD.device)
            for number, chunk in enumerate(chunks):
                hidden_CD = hidden_UD[chunk].to(ctx.dtype)
                if ctx.kept:
                    logits_CV, ctx.kept[number] = ctx.kept[number], None
                else:
                    logits_CV = _logits(hidden_CD, cast_VD, bias_V)
                grad_CV = _grad_logits(
                    logits_CV, normaliser_U[chunk], targets_U2[chunk], grad_U2[chunk]
                )
                cast_CV = grad_CV.to(ctx.dtype)
                if grad_hidden_UD is not None:
                    grad_hidden_UD[chunk] = (cast_CV @ cast_VD).to(hidden_UD.dtype)
                if grad_weight_VD is not None:
                    _add_product(grad_weight_VD, cast_CV, hidden_CD)
                if grad_bias_V is not None:
                    grad_bias_V += grad_CV.sum(0).to(bias_V.dtype)
        return grad_hidden_UD, grad_weight_VD, grad_bias_V, None, None


def _logits(hidden_CD: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    bias = None if bias_V is None else bias_V.to(hidden_CD.dtype)
    return torch.nn.functional.linear(hidden_CD, weight_VD, bias).float()


def _grad_logits(
    logits_CV: Tensor, normaliser_C: Tensor, targets_C2: Tensor, grad_C2: Tensor
) -> Tensor:
    """Gradient of a chunk's logits, written over them: onehot(target) - softmax, weighted."""
    grad_CV = logits_CV.sub_(normaliser_C[:, None]).exp_().mul_(-grad_C2.sum(1, keepdim=True))
    # One column at a time: scatter_add_ of two equal targets in a row has no fixed order.
    for column in range(2):
        grad_CV.scatter_add_(1, targets_C2[:, column, None], grad_C2[:, column, None])
    return grad_CV


def _add_product(grad_weight_VD: Tensor, grad_CV: Tensor, hidden_CD: Tensor) -> None:
    if grad_weight_VD.dtype == grad_CV.dtype:
        grad_weight_VD.addmm_(grad_CV.T, hidden_CD)
    else:
        grad_weight_VD += grad_CV.T @ hidden_CD
