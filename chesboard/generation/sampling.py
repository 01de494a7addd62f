"""The choice of the next token: greedy, or sampled by temperature and top-p.

Dimensions: B rows of a batch, V vocabulary, K likeliest tokens.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NUCLEUS_GUESS = 1024
"""Tokens among which a nucleus is looked for before the whole vocabulary is sorted."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature: divides the logits; 0 takes the likeliest token. top_p: sample from the
    likeliest tokens that together have this probability (Holtzman et al., arXiv 1904.09751)."""

    temperature: float = 1.0
    top_p: float = 1.0

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0


def draws(seed: int, pair: int, sample: int, count: int) -> np.ndarray:
    """float64 numbers in [0, 1), one for each token of an answer.

    A longer answer has the same first ones. Other answers have independent ones.
    """
    return np.random.default_rng((seed, pair, sample)).random(count)


def next_tokens(logits_BV: Tensor, sampling: Sampling, drawn_B: Tensor) -> Tensor:
    """int64 token ids_B: where each row's number falls in its cumulative distribution.

    logits_BV: float32. drawn_B: float64 in [0, 1); without effect if greedy. A token of
    probability zero is never chosen. Rows of NaN give some token of the vocabulary.
    """
    if sampling.is_greedy:
        return logits_BV.argmax(-1)
    # Less than the largest first: a small temperature must not overflow.
    shifted_BV = logits_BV - logits_BV.amax(-1, keepdim=True)
    probs_BV = torch.softmax(shifted_BV / sampling.temperature, -1)
    if sampling.top_p < 1:
        probs_BV = _nucleus(probs_BV, sampling.top_p)
    cumulative_BV = probs_BV.double().cumsum(-1)
    # In float64 the product is less than the sum for every number below 1, so one token's end is
    # beyond it.
    target_B1 = drawn_B[:, None] * cumulative_BV[:, -1:]
    ids_B = torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0]
    return ids_B.clamp(max=logits_BV.shape[-1] - 1)


def _nucleus(probs_BV: Tensor, top_p: float) -> Tensor:
    """Zero outside the smallest set of likeliest tokens with a mass of at least `top_p`. Tokens
    that are as likely as the last of them belong to it too."""
    likeliest_BK = probs_BV.topk(min(NUCLEUS_GUESS, probs_BV.shape[-1])).values
    if bool((likeliest_BK.double().sum(-1) < top_p).any()):
        likeliest_BK = probs_BV.sort(-1, descending=True).values
    above_BK = likeliest_BK.double().cumsum(-1) - likeliest_BK  # the mass of what is likelier
    size_B1 = (above_BK < top_p).sum(-1, keepdim=True).clamp(min=1)
    least_B1 = likeliest_BK.gather(-1, size_B1 - 1)
    return probs_BV.where(probs_BV >= least_B1, 0.0)
