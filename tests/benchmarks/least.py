"""The least time that scores can take on this machine: that of their products of matrices alone."""

import time
from collections.abc import Sequence

import torch

from chesboard.cpu import onednn
from chesboard.forward.packing import common_prefix, row_tokens
from chesboard.model import LoadedModel, causal_model
from chesboard.pairs import TokenizedPair

SIDE = 2048
TRIES = 8


def least_seconds(loaded: LoadedModel, pairs: Sequence[TokenizedPair]) -> float:
    """Seconds of the multiplications by the model's weights that the scores of these pairs need,
    prompts and what all prompts begin with counted once, at the speed of one large product of two
    matrices in the run's precision. Attention and all else come on top of it.
    """
    model = causal_model(loaded)
    head = model.get_output_embeddings()
    layers = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    common = len(common_prefix(pairs))
    tokens = common + sum(row_tokens(pair) - common for pair in pairs)
    predicting = sum(
        len(pair.preferred_ids) + len(pair.dispreferred_ids) - pair.fork_position - 1
        for pair in pairs
    )
    products_needed = layers * tokens + head.weight.numel() * predicting
    return products_needed / _products_a_second(loaded.compute_dtype)


@torch.no_grad()
def _products_a_second(dtype: torch.dtype) -> float:
    """Multiplications a second, in the fastest of some tries."""
    left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(TRIES):
        started = time.perf_counter()
        onednn.linear(left, right)
        seconds.append(time.perf_counter() - started)
    return float(SIDE**3 / min(seconds))
