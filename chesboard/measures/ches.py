"""CHES and its relatives, as functions of hidden states (`docs/theory.md`, equations 2 to 5).

Dimensions: n and m tokens of y+ and y-, end token included; D hidden size; B pairs; U and N as in
`chesboard/forward/states.py`.

The rows that the functions of one pair expect are the hidden embeddings that *predict* the response
tokens: `hidden_LD[predicting_positions(prompt_tokens, response_tokens)]`. The first is at the last
prompt token, the last at the token before the end token; padding is left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from chesboard.forward.states import PairStates


def predicting_positions(prompt_tokens: int, response_tokens: int, left_padding: int = 0) -> slice:
    """The positions of a row of hidden states that predict a response.

    prompt_tokens: at least 1. response_tokens: those that are read, the end token included unless
    the response was truncated. left_padding: positions before the prompt. The state at the last
    response token, which predicts nothing that is asked, is left out, and so is padding at the
    right.
    """
    first = left_padding + prompt_tokens - 1
    return slice(first, first + response_tokens)


def ches(hidden_preferred_ND: Tensor, hidden_dispreferred_MD: Tensor) -> Tensor:
    """CHES of one pair: <S+, S-> - <S+, S+> (`docs/theory.md`, equation 3).

    Source: Razin et al., arXiv 2410.08847, Section 5.

    Arguments: the hidden states that predict the n tokens of y+ and the m of y- (see the module),
    (n, D) and (m, D), of any floating dtype. They are summed in float32 or wider.
    Returns: a float64 scalar on their device; gradients flow.

    Raises:
        ValueError: no rows, or states that are not two matrices of one width.
    """
    _check(hidden_preferred_ND, hidden_dispreferred_MD)
    preferred_D, dispreferred_D = _sum(hidden_preferred_ND), _sum(hidden_dispreferred_MD)
    return _inner(preferred_D, dispreferred_D - preferred_D)


def length_normalized_ches(hidden_preferred_ND: Tensor, hidden_dispreferred_MD: Tensor) -> Tensor:
    """CHES of the mean hidden states: <S+, S->/(n m) - <S+, S+>/n^2 (`docs/theory.md`, equation 4).

    Source: Razin et al., arXiv 2410.08847, Section 6. Arguments, result and errors as in `ches`.
    """
    _check(hidden_preferred_ND, hidden_dispreferred_MD)
    preferred_D = _sum(hidden_preferred_ND) / len(hidden_preferred_ND)
    dispreferred_D = _sum(hidden_dispreferred_MD) / len(hidden_dispreferred_MD)
    return _inner(preferred_D, dispreferred_D - preferred_D)


def last_hidden_inner_product(
    hidden_preferred_ND: Tensor, hidden_dispreferred_MD: Tensor
) -> Tensor:
    """Inner product of the states that predict the last token of each response (`docs/theory.md`,
    equation 5).

    Source: Razin et al., arXiv 2410.08847, Section 6. Arguments, result and errors as in `ches`.
    """
    _check(hidden_preferred_ND, hidden_dispreferred_MD)
    return _inner(hidden_preferred_ND[-1], hidden_dispreferred_MD[-1])


@dataclass(frozen=True, slots=True)
class HiddenMeasures:
    """The three measures of each pair of a batch, float64 on the CPU."""

    ches_B: Tensor
    ln_ches_B: Tensor
    last_hidden_inner_product_B: Tensor


def hidden_measures(states: PairStates) -> HiddenMeasures:
    """`ches`, `length_normalized_ches` and `last_hidden_inner_product` of a batch of pairs.

    Hidden states are summed in float32 whatever their dtype: bfloat16 sums are wrong by a
    quarter at 50 tokens. CHES is computed as <S+, S- - S+>, which cancels less than the
    difference of the two inner products; its inner product is taken in float64.
    """
    index = states.index
    preferred_BD = _sum_by_pair(
        states.hidden_UD, index.preferred_rows_N, index.preferred_pair_N, index.pairs
    )
    dispreferred_BD = _sum_by_pair(
        states.hidden_UD, index.dispreferred_rows_N, index.dispreferred_pair_N, index.pairs
    )
    preferred_n = torch.bincount(index.preferred_pair_N, minlength=index.pairs)
    dispreferred_n = torch.bincount(index.dispreferred_pair_N, minlength=index.pairs)
    preferred_mean_BD = preferred_BD / preferred_n[:, None]
    dispreferred_mean_BD = dispreferred_BD / dispreferred_n[:, None]
    # A pair's rows follow each other in order, so its last row is where its count ends.
    last_preferred = index.preferred_rows_N[preferred_n.cumsum(0) - 1]
    last_dispreferred = index.dispreferred_rows_N[dispreferred_n.cumsum(0) - 1]
    return HiddenMeasures(
        ches_B=_inner(preferred_BD, dispreferred_BD - preferred_BD).cpu(),
        ln_ches_B=_inner(preferred_mean_BD, dispreferred_mean_BD - preferred_mean_BD).cpu(),
        last_hidden_inner_product_B=_inner(
            states.hidden_UD[last_preferred], states.hidden_UD[last_dispreferred]
        ).cpu(),
    )


def _check(preferred_ND: Tensor, dispreferred_MD: Tensor) -> None:
    shapes = tuple(preferred_ND.shape), tuple(dispreferred_MD.shape)
    if any(len(shape) != 2 or shape[0] == 0 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            f"Hidden states must be two matrices of one width with at least one row each, (n, D) "
            f"and (m, D); they are {shapes[0]} and {shapes[1]}."
        )


def _sum(hidden_ND: Tensor) -> Tensor:
    return hidden_ND.sum(0, dtype=torch.promote_types(hidden_ND.dtype, torch.float32))


def _sum_by_pair(hidden_UD: Tensor, rows_N: Tensor, pair_N: Tensor, pairs: int) -> Tensor:
    sums_BD = hidden_UD.new_zeros((pairs, hidden_UD.shape[1]), dtype=torch.float32)
    return sums_BD.index_add_(0, pair_N, hidden_UD[rows_N].float())


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """float64 inner products over the last dimension."""
    return (a.double() * b.double()).sum(-1)
