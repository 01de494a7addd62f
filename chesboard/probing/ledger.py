"""Where probability mass went at one position: the ledger, and what theory says of it.

Dimensions: V vocabulary, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ledger:
    """p_now - p_initial: the tokens that gained and lost most, and all others together.

    gainers, losers: (token, change), largest first. All changes and rest_change sum to zero.
    """

    gainers: list[tuple[int, float]]
    losers: list[tuple[int, float]]
    rest_change: float
    moved_mass: float
    """Half the sum of absolute changes: 1 where all mass went elsewhere."""


def distribution(logits_V: Tensor) -> Tensor:
    """Probabilities in float64 on the CPU; their sum is 1 to about 1e-15."""
    return torch.softmax(logits_V.double().cpu(), -1)


def make_ledger(initial_V: Tensor, now_V: Tensor, top: int) -> Ledger:
    """The ledger of two distributions, in float64. Tokens that did not change are not listed."""
    change_V = now_V.double() - initial_V.double()
    gainers = _top(change_V, top)
    losers = [(token_id, -loss) for token_id, loss in _top(-change_V, top)]
    rest_V = change_V.clone()
    rest_V[[token_id for token_id, _ in [*gainers, *losers]]] = 0
    return Ledger(gainers, losers, rest_V.sum().item(), change_V.abs().sum().item() / 2)


def _top(change_V: Tensor, top: int) -> list[tuple[int, float]]:
    values, token_ids = change_V.topk(min(top, len(change_V)))
    listed = zip(token_ids.tolist(), values.tolist(), strict=True)
    return [(token_id, value) for token_id, value in listed if value > 0]


def preference_direction(unembedding_VD: Tensor, preferred_id: int, dispreferred_id: int) -> Tensor:
    """d_D = W[y+] - W[y-]: along it a small preference step moves the hidden state at the fork."""
    return (unembedding_VD[preferred_id] - unembedding_VD[dispreferred_id]).float()


def likelihood_direction(unembedding_VD: Tensor, initial_V: Tensor, preferred_id: int) -> Tensor:
    """The same for plain cross-entropy: d_D = W[y+] - sum_v p_v W_v."""
    mean_D = initial_V.to(unembedding_VD.device, torch.float32) @ unembedding_VD.float()
    return unembedding_VD[preferred_id].float() - mean_D


def predicted_changes(unembedding_VD: Tensor, initial_V: Tensor, direction_D: Tensor) -> Tensor:
    """p_z (<W_z, d> - sum_v p_v <W_v, d>) for every token z, in float64 on the CPU.

    Moving the hidden state by a small multiple of d moves the logits by that multiple of W d;
    this is how the softmax answers. So it holds up to a common positive factor. Sums to zero.
    """
    logits_V = (unembedding_VD.float() @ direction_D.to(unembedding_VD.device)).double().cpu()
    p_V = initial_V.double()
    return p_V * (logits_V - (p_V * logits_V).sum())


def top_gainers(change_V: Tensor, top: int) -> list[int]:
    """Token ids of the largest positive changes, the largest first."""
    return [token_id for token_id, _ in _top(change_V, top)]


def ranks(change_V: Tensor, token_ids: Sequence[int]) -> list[int]:
    """The place of each of these tokens in the vocabulary by change: 1 gained most."""
    chosen_C = change_V[list(token_ids)]
    ahead_C = (change_V[None, :] > chosen_C[:, None]).sum(1)
    return [int(ahead) + 1 for ahead in ahead_C.tolist()]


def rank_agreement(predicted: Sequence[float], actual: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties averaged. None for fewer than two values, for values that
    are all alike, and where one is not finite."""
    both = np.array([predicted, actual], dtype=np.float64)
    if both.shape[1] < 2 or not np.isfinite(both).all():
        return None
    ranked = np.array([_average_ranks(row) for row in both])
    if (ranked.std(1) == 0).any():
        return None
    return float(np.corrcoef(ranked)[0, 1])


def _average_ranks(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Any:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def watched_tokens(
    initial_V: Tensor,
    predicted_V: Tensor | None,
    always: Sequence[int],
    likely: int = 48,
    predicted: int = 16,
) -> list[int]:
    """Tokens worth following at every step, each once: `always` first, then the likeliest at
    the start, then those that theory lets gain and lose most, where it says something."""
    chosen = [*always, *initial_V.topk(min(likely, len(initial_V))).indices.tolist()]
    if predicted_V is not None:
        chosen += top_gainers(predicted_V, predicted)
        chosen += top_gainers(-predicted_V, predicted)
    return list(dict.fromkeys(chosen))
