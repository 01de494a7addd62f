"""Gradients of both log-probabilities of a pair, and their inner products with directions.

The change of log p(y) along a direction u is <grad log p(y), u> to first order (`docs/theory.md`,
equation 28). So one backward pass a response gives its change along every direction that is in
memory, where following each direction by itself would take a pass for each.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from chesboard.forward.states import PairForward
from chesboard.memory import free_bytes
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.tokenization import find_fork

Direction = Mapping[str, Tensor]
"""Name of a parameter → the direction in which it moves, of its shape."""

FREE_SHARE = 1 / 2
"""Share of the free memory that directions, and the gradients that they are multiplied with, may
take; the rest is for what a backward pass keeps."""
PIECE = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Weights of one float32 sum; the sums add up in float64. On a CPU a piece of both gradients stays
in the processor's cache while those of all directions pass by."""


@contextmanager
def following(loaded: LoadedModel) -> Iterator[dict[str, Tensor]]:
    """Name → weight, of those that training changes; gradients are recorded inside the block."""
    weights = {
        name: weight
        for name, weight in loaded.model.named_parameters()
        if weight.is_floating_point()
    }
    required = {name: weight.requires_grad for name, weight in weights.items()}
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        with torch.enable_grad():
            yield weights
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(required[name])


def gradients_of(value: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of a scalar with respect to the weights, contiguous; zeros where it does not
    depend on one."""
    found = torch.autograd.grad(
        value, list(weights.values()), allow_unused=True, materialize_grads=True
    )
    return {
        name: gradient.detach().contiguous() for name, gradient in zip(weights, found, strict=True)
    }


def changes_along(
    loaded: LoadedModel,
    forward: PairForward,
    pair: TokenizedPair,
    directions: Sequence[Direction],
) -> list[tuple[float, float]]:
    """First-order changes of (log p(y+), log p(y-)) of the pair along each direction, in nats.

    Each response is computed by itself: a backward pass through both would have to be taken twice,
    with what it needs in memory all the while.
    """
    both = [
        response_gradient(loaded, forward, pair, response)
        for response in (pair.preferred_ids, pair.dispreferred_ids)
    ]
    return [(a, b) for a, b in inner_products(directions, both).tolist()]


def response_gradient(
    loaded: LoadedModel, forward: PairForward, pair: TokenizedPair, response: Sequence[int]
) -> Direction:
    """The gradient of a response's log-probability with respect to all weights. pair: its prompt is
    what counts."""
    # A pair of equal responses takes up the tokens of one where the prefix is shared.
    ids, ends = list(response), list(range(1, len(response) + 1))
    alone = replace(
        pair,
        preferred_ids=ids,
        dispreferred_ids=ids,
        fork_position=find_fork(ids, ids),
        preferred_ends=ends,
        dispreferred_ends=ends,
    )
    with following(loaded) as weights:
        return gradients_of(forward([alone]).preferred_logprobs_B().sum(), weights)


@torch.no_grad()
def inner_products(directions: Sequence[Direction], gradients: Sequence[Direction]) -> Tensor:
    """<gradient, direction> of each direction (rows) with each gradient; float64 on the CPU.

    A row is the same to the last bit whatever other directions there are.
    """
    parts: list[list[Tensor]] = [[] for _ in range(len(directions) * len(gradients))]
    for name, weight in gradients[0].items():
        size = PIECE.get(weight.device.type, PIECE["cuda"])
        rows = [torch.split(direction[name].view(-1), size) for direction in directions]
        columns = [torch.split(gradient[name].view(-1), size) for gradient in gradients]
        for piece in range(len(columns[0])):
            products = (row[piece].dot(column[piece]) for row in rows for column in columns)
            for sums, product in zip(parts, products, strict=True):
                sums.append(product)
    totals = torch.stack([torch.stack(sums).double().sum() for sums in parts])
    return totals.view(len(directions), len(gradients)).cpu()


def directions_at_once(loaded: LoadedModel) -> int:
    """How many directions fit into FREE_SHARE of the memory that is free now, at least one."""
    size = sum(weight.nbytes for weight in loaded.model.parameters() if weight.is_floating_point())
    free = free_bytes(loaded.device)
    return max(1, int(FREE_SHARE * free / size) - 2)  # the gradients of both responses
