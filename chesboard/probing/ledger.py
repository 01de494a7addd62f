"""The mass ledger: which tokens gained and lost probability at one position.

docs/theory.md, equation 9. Dimensions: V vocabulary, C chosen tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ledger:
    """p_now - p_initial: the tokens that gained and lost most, and the sum over all others.

    gainers, losers: (token id, change), largest absolute change first. All changes and rest_change
    sum to zero.
    """

    gainers: list[tuple[int, float]]
    losers: list[tuple[int, float]]
    rest_change: float
    moved_mass: float
    """Half the sum of absolute changes, the total variation distance: 1 where all mass moved."""


def distribution(logits_V: Tensor) -> Tensor:
    """Probabilities in float64 on the CPU; their sum is 1 to about 1e-15."""
    return torch.softmax(logits_V.double().cpu(), -1)


def make_ledger(initial_V: Tensor, now_V: Tensor, top: int) -> Ledger:
    """The ledger of two distributions, in float64: at most `top` gainers and `top` losers.

    Tokens whose probability did not change are not listed.
    """
    change_V = now_V.double() - initial_V.double()
    gainers = _top(change_V, top)
    losers = [(token_id, -loss) for token_id, loss in _top(-change_V, top)]
    # The rest is summed over the tokens that are not listed, rather than as minus the listed ones:
    # so the balance (gains + losses + rest = 0) checks the two distributions, and is no tautology.
    rest_V = change_V.clone()
    rest_V[[token_id for token_id, _ in [*gainers, *losers]]] = 0
    return Ledger(gainers, losers, rest_V.sum().item(), change_V.abs().sum().item() / 2)


def kl_divergence(now_V: Tensor, initial_V: Tensor) -> float:
    """KL(now || initial) in nats, in float64; never negative (docs/theory.md, equation 43).

    Summed as p log(p/q) - p + q, whose terms are all at least 0: an initial distribution that is
    kept in float32 then costs its rounding squared, rather than 1e-8 nats of either sign. What
    underflows there counts as float32's smallest normal number.
    """
    now_V, initial_V = now_V.double(), initial_V.double().clamp(min=torch.finfo(torch.float32).tiny)
    terms_V = torch.special.xlogy(now_V, now_V / initial_V) - now_V + initial_V
    return float(terms_V.clamp(min=0).sum())


def _top(change_V: Tensor, top: int) -> list[tuple[int, float]]:
    values, token_ids = change_V.topk(min(top, len(change_V)))
    listed = zip(token_ids.tolist(), values.tolist(), strict=True)
    return [(token_id, value) for token_id, value in listed if value > 0]


def top_gainers(change_V: Tensor, top: int) -> list[int]:
    """Token ids of the largest positive changes, the largest first."""
    return [token_id for token_id, _ in _top(change_V, top)]


def ranks(change_V: Tensor, token_ids: Sequence[int]) -> list[int]:
    """The rank of each of these tokens in the whole vocabulary by change: 1 gained most."""
    chosen_C = change_V[list(token_ids)]
    larger_C = (change_V[None, :] > chosen_C[:, None]).sum(1)
    return [int(larger) + 1 for larger in larger_C.tolist()]


def watched_tokens(
    initial_V: Tensor,
    predicted_V: Tensor | None,
    always: Sequence[int],
    likely: int = 48,
    predicted: int = 16,
) -> list[int]:
    """Tokens whose probability is recorded at every step, each once: `always` first, then the
    most likely ones initially, then those predicted to gain and to lose most, where there is a
    prediction."""
    chosen = [*always, *initial_V.topk(min(likely, len(initial_V))).indices.tolist()]
    if predicted_V is not None:
        chosen += top_gainers(predicted_V, predicted)
        chosen += top_gainers(-predicted_V, predicted)
    return list(dict.fromkeys(chosen))
