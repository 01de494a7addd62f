"""The measures of design's table, from hidden states: CHES and its relatives.

Dimensions: B pairs, D hidden size, U and N as in chesboard/forward/shared_prefix.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chesboard.forward.states import PairStates
from chesboard.pairs import TokenizedPair


@dataclass(frozen=True, slots=True)
class HiddenMeasures:
    """Per pair, float64 on the CPU."""

    ches_B: Tensor
    ln_ches_B: Tensor
    last_hidden_inner_product_B: Tensor


def hidden_measures(states: PairStates) -> HiddenMeasures:
    """CHES, length-normalized CHES and last-hidden inner product of each pair.

    Hidden states are summed in float32 whatever their dtype: bfloat16 sums are wrong by a
    quarter at 50 tokens. CHES is computed as <S+, S- - S+>, which cancels less than the
    difference of the two inner products; its inner product is taken in float64.
    """
    index = states.index
    preferred_BD = _sum_hidden(
        states.hidden_UD, index.preferred_rows_N, index.preferred_pair_N, index.pairs
    )
    dispreferred_BD = _sum_hidden(
        states.hidden_UD, index.dispreferred_rows_N, index.dispreferred_pair_N, index.pairs
    )
    preferred_n = _counts(index.preferred_pair_N, index.pairs)
    dispreferred_n = _counts(index.dispreferred_pair_N, index.pairs)
    preferred_mean_BD = preferred_BD / preferred_n[:, None]
    dispreferred_mean_BD = dispreferred_BD / dispreferred_n[:, None]
    last_preferred = index.preferred_rows_N[preferred_n.cumsum(0) - 1]
    last_dispreferred = index.dispreferred_rows_N[dispreferred_n.cumsum(0) - 1]
    return HiddenMeasures(
        ches_B=_inner(preferred_BD, dispreferred_BD - preferred_BD),
        ln_ches_B=_inner(preferred_mean_BD, dispreferred_mean_BD - preferred_mean_BD),
        last_hidden_inner_product_B=_inner(
            states.hidden_UD[last_preferred], states.hidden_UD[last_dispreferred]
        ),
    )


def _sum_hidden(hidden_UD: Tensor, rows_N: Tensor, pair_N: Tensor, pairs: int) -> Tensor:
    sums_BD = hidden_UD.new_zeros((pairs, hidden_UD.shape[1]), dtype=torch.float32)
    return sums_BD.index_add_(0, pair_N, hidden_UD[rows_N].float())


def _counts(pair_N: Tensor, pairs: int) -> Tensor:
    return torch.bincount(pair_N, minlength=pairs)


def _inner(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    return (a_BD.double() * b_BD.double()).sum(1).cpu()


def normalized_edit_distance(pair: TokenizedPair) -> float:
    """Levenshtein distance of the two token sequences, end token left out, over the longer."""
    longer = max(len(pair.preferred_words), len(pair.dispreferred_words))
    return levenshtein(pair.preferred_words, pair.dispreferred_words) / longer if longer else 0.0


def levenshtein(a: Sequence[int], b: Sequence[int]) -> int:
    """Least number of insertions, deletions and substitutions that turn a into b.

    Myers' bit-parallel algorithm (J. ACM 46, 1999) in Hyyrö's form: a column of the table of
    distances is two integers of len(a) bits that mark where it steps up and down.
    """
    if not a or not b:
        return max(len(a), len(b))
    places: dict[int, int] = {}
    for i, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << i
    everywhere = (1 << len(a)) - 1
    last = 1 << (len(a) - 1)
    up, down, distance = everywhere, 0, len(a)
    for token in b:
        equal = places.get(token, 0)
        zero_diagonal = (((equal & up) + up) ^ up) | equal | down
        right_up = down | ~(zero_diagonal | up) & everywhere
        right_down = zero_diagonal & up
        if right_up & last:
            distance += 1
        elif right_down & last:
            distance -= 1
        right_up = (right_up << 1 | 1) & everywhere
        right_down = right_down << 1 & everywhere
        up = right_down | ~(zero_diagonal | right_up) & everywhere
        down = right_up & zero_diagonal
    return distance
