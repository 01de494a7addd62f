"""Log-probabilities of two tokens at each position, without the logits of the batch in memory.

Dimensions: U positions, V vocabulary, D hidden size; C positions and W words of one tile.

`token_logprobs` serves scoring, training and probes. It equals

    torch.log_softmax((hidden_UD @ weight_VD.T + bias_V).float(), -1).gather(-1, targets_U2)

but goes over the U x V logits in tiles, and recomputes those of a tile in the backward pass where
they are too large to be kept. On a CPU a tile stays in the processor's cache from the product that
makes it to the sum that needs it, which takes a sixth less time than rows of logits that go out to
memory and back (measured).

torch.nn.functional.linear_cross_entropy (torch 2.13) computes the same for one target a position,
whole or in chunks of positions. Compared with this module on a CPU (D 576, V 49,152, U 1,024,
float32, one thread), it is slower: 796 to 873 ms against 671 without gradient, 1,749 to 2,313
against 1,322 with that of the hidden states, 2,435 to 2,993 against 2,013 with that of the weight
too. Without gradient it takes three to nine times the memory (144 to 400 MiB against 43); with
gradient its smallest chunks take less (151 MiB against 220), because logits are kept here while
there is room. And the positions that both responses share would have to be computed twice.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chesboard.model import Head
from chesboard.products import Products

TILE_BYTES = {"cpu": 6 << 20, "cuda": 512 << 20}
"""Size of one tile's float32 logits."""
TILE_POSITIONS = {"cpu": 2048, "cuda": 8192}
"""Positions in a tile at most. The more, the fewer times the weights are read."""
KEEP_BYTES = {"cpu": 512 << 20, "cuda": 1 << 30}
"""Logits that are kept for the backward pass, which is a third shorter where all of them are."""


def head_logits(head: Head, hidden_UD: Tensor) -> Tensor:
    """float32 logits_UV of a few positions, all at once, without gradient."""
    with torch.no_grad(), autocast_off(hidden_UD):
        bias = None if head.bias_V is None else head.bias_V.to(head.dtype)
        return head.products.linear(
            head.scaled(hidden_UD).to(head.dtype), head.weight_VD.to(head.dtype), bias
        ).float()


def token_logprobs(head: Head, hidden_UD: Tensor, targets_U2: Tensor) -> Tensor:
    """float32 logprobs_U2 in nats: at each position the log-probability of two tokens.

    Two, because the responses of a pair share the positions up to their fork. Gradients reach
    hidden states, weight and bias, each in its own dtype; they cannot be differentiated again.
    """
    result: Tensor = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        head.scaled(hidden_UD), head.weight_VD, head.bias_V, targets_U2, head.dtype, head.products
    )
    return result


def logprobs_of_logits(logits_UV: Tensor, targets_U2: Tensor) -> Tensor:
    """The same from logits that exist already, by plain autograd."""
    logits_UV = logits_UV.float()
    return logits_UV.gather(1, targets_U2) - logits_UV.logsumexp(1, keepdim=True)


def autocast_off(like: Tensor) -> torch.autocast:
    """This module chooses the dtype of each product itself."""
    return torch.autocast(like.device.type, enabled=False)


def tile_height(device: torch.device) -> int:
    """Positions of a tile at most."""
    return TILE_POSITIONS.get(device.type, TILE_POSITIONS["cpu"])


def tile_width(positions: int, device: torch.device) -> int:
    """Words of a tile with so many positions."""
    return max(1, TILE_BYTES.get(device.type, TILE_BYTES["cpu"]) // (4 * max(1, positions)))


def _tiles(positions: int, vocabulary: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Positions and words of each tile. All tiles of the same positions follow each other."""
    height = min(positions, tile_height(device))
    width = tile_width(height, device)
    for top in range(0, positions, height):
        for left in range(0, vocabulary, width):
            yield slice(top, min(top + height, positions)), slice(left, left + width)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_UD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_U2: Tensor,
        dtype: torch.dtype,
        products: Products,
    ) -> Tensor:
        positions, vocabulary, device = len(hidden_UD), len(weight_VD), hidden_UD.device
        room = KEEP_BYTES.get(device.type, KEEP_BYTES["cpu"]) if any(ctx.needs_input_grad) else 0
        target_logits_U2 = hidden_UD.new_zeros((positions, 2), dtype=torch.float32)
        normalizer_U = hidden_UD.new_full((positions,), -torch.inf, dtype=torch.float32)
        kept: list[Tensor] = []  # logits of the first tiles, as many as there is room for
        with autocast_off(hidden_UD):
            for at_C, at_W in _tiles(positions, vocabulary, device):
                logits_CW = word_logits(
                    products, hidden_UD[at_C], weight_VD[at_W], part_of(bias_V, at_W), dtype
                )
                # log of the softmax's denominator, accumulated over the tiles of these positions
                normalizer_U[at_C] = torch.logaddexp(normalizer_U[at_C], logits_CW.logsumexp(1))
                # each target's logit is in exactly one tile
                inside_C2, index_C2 = _targets_within(targets_U2[at_C], at_W, logits_CW.shape[1])
                target_logits_U2[at_C] += logits_CW.gather(1, index_C2).where(inside_C2, 0.0)
                room -= logits_CW.nbytes
                if room >= 0:
                    kept.append(logits_CW)
        ctx.dtype = dtype
        ctx.products = products
        ctx.kept = kept
        ctx.save_for_backward(hidden_UD, weight_VD, bias_V, targets_U2, normalizer_U)
        return target_logits_U2 - normalizer_U[:, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_U2: Tensor) -> tuple[Tensor | None, ...]:
        hidden_UD, weight_VD, bias_V, targets_U2, normalizer_U = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        float32 = torch.float32
        grad_hidden_UD = torch.zeros_like(hidden_UD, dtype=float32) if wants_hidden else None
        grad_weight_VD = torch.zeros_like(weight_VD) if wants_weight else None
        grad_bias_V = torch.zeros_like(bias_V) if wants_bias else None
        # The same tiles in the same order as in the forward pass, so that kept logits line up.
        tiles = _tiles(len(hidden_UD), len(weight_VD), hidden_UD.device)
        with autocast_off(hidden_UD):
            for number, (at_C, at_W) in enumerate(tiles):
                hidden_CD, weight_WD = hidden_UD[at_C].to(ctx.dtype), weight_VD[at_W].to(ctx.dtype)
                if number < len(ctx.kept):
                    logits_CW, ctx.kept[number] = ctx.kept[number], None  # freed after this tile
                else:
                    logits_CW = word_logits(
                        ctx.products, hidden_CD, weight_WD, part_of(bias_V, at_W), ctx.dtype
                    )
                grad_CW = _grad_logits(
                    logits_CW, normalizer_U[at_C], targets_U2[at_C], grad_U2[at_C], at_W
                )
                # The chain rule through logits = hidden @ weight.T + bias. Gradients of the hidden
                # states add up over the tiles' words, those of weight and bias over positions.
                cast_CW = grad_CW.to(ctx.dtype)
                if grad_hidden_UD is not None:
                    ctx.products.add_product(grad_hidden_UD[at_C], cast_CW, weight_WD)
                if grad_weight_VD is not None:
                    ctx.products.add_product(grad_weight_VD[at_W], cast_CW.T, hidden_CD)
                if grad_bias_V is not None:
                    grad_bias_V[at_W] += grad_CW.sum(0).to(bias_V.dtype)
        if grad_hidden_UD is not None:
            grad_hidden_UD = grad_hidden_UD.to(hidden_UD.dtype)
        return grad_hidden_UD, grad_weight_VD, grad_bias_V, None, None, None


def part_of(bias_V: Tensor | None, at_W: slice) -> Tensor | None:
    return None if bias_V is None else bias_V[at_W]


def word_logits(
    products: Products,
    hidden_CD: Tensor,
    weight_WD: Tensor,
    bias_W: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    bias = None if bias_W is None else bias_W.to(dtype)
    """float32 logits of some words, from products in the dtype; autocast must be off."""
    return products.linear(hidden_CD.to(dtype), weight_WD.to(dtype), bias).float()


def _targets_within(targets_C2: Tensor, at_W: slice, width: int) -> tuple[Tensor, Tensor]:
    """Which targets are among the words of a tile, and at which column; any column for others."""
    index_C2 = targets_C2 - at_W.start
    inside_C2 = (index_C2 >= 0) & (index_C2 < width)
    return inside_C2, index_C2.clamp(0, width - 1)


def _grad_logits(
    logits_CW: Tensor, normalizer_C: Tensor, targets_C2: Tensor, grad_C2: Tensor, at_W: slice
) -> Tensor:
    """Gradient of a tile's logits, written over them: sum over both targets of their upstream
    gradient times (onehot(target) - softmax)."""
    inside_C2, index_C2 = _targets_within(targets_C2, at_W, logits_CW.shape[1])
    grad_CW = logits_CW.sub_(normalizer_C[:, None]).exp_().mul_(-grad_C2.sum(1, keepdim=True))
    here_C2 = grad_C2.where(inside_C2, 0.0)
    # One column at a time: scatter_add_ of two equal targets in a row has no fixed order.
    for column in range(2):
        grad_CW.scatter_add_(1, index_C2[:, column, None], here_C2[:, column, None])
    return grad_CW
