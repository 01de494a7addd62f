import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chesboard.forward.states import PairStates, ResponseIndex
from chesboard.measures.ches import hidden_measures, levenshtein, normalized_edit_distance
from tests.chesboard import naive
from tests.tiny_models import END, make_pair


def states_of(preferred_ND: torch.Tensor, dispreferred_ND: torch.Tensor) -> PairStates:
    """One pair with the given hidden states."""
    n, m = len(preferred_ND), len(dispreferred_ND)
    index = ResponseIndex(
        pairs=1,
        preferred_rows_N=torch.arange(n),
        preferred_pair_N=torch.zeros(n, dtype=torch.long),
        dispreferred_rows_N=torch.arange(n, n + m),
        dispreferred_pair_N=torch.zeros(m, dtype=torch.long),
        fork_rows_B=torch.tensor([0]),
    )
    return PairStates(torch.cat([preferred_ND, dispreferred_ND]), None, None, index)


def test_measures_of_numbers_worked_by_hand():
    """S+ = (3, 1), S- = (2, 2): <S+,S-> = 8, <S+,S+> = 10; n+ = 2, n- = 1."""
    measures = hidden_measures(
        states_of(torch.tensor([[1.0, 0.0], [2.0, 1.0]]), torch.tensor([[2.0, 2.0]]))
    )
    assert measures.ches_B.tolist() == [-2.0]
    assert measures.ln_ches_B.tolist() == [pytest.approx(8 / 2 - 10 / 4)]
    assert measures.last_hidden_inner_product_B.tolist() == [6.0]


@pytest.mark.parametrize("tokens", [50, 300])
def test_bfloat16_states_are_summed_in_float32(tokens):
    """Sums in bfloat16 are wrong by a quarter at 50 tokens and by everything at 300."""
    generator = torch.Generator().manual_seed(tokens)
    mean_D = torch.randn(64, generator=generator) * 3
    preferred = (mean_D + torch.randn(tokens, 64, generator=generator)).bfloat16()
    dispreferred = (mean_D + torch.randn(tokens + 5, 64, generator=generator)).bfloat16()
    s_plus, s_minus = preferred.double().sum(0), dispreferred.double().sum(0)
    exact = (s_plus @ (s_minus - s_plus)).item()
    assert hidden_measures(states_of(preferred, dispreferred)).ches_B.item() == pytest.approx(
        exact, rel=1e-5
    )


token_lists = st.lists(st.integers(0, 4), max_size=40)


@given(token_lists, token_lists)
def test_edit_distance_equals_its_table(a, b):
    assert levenshtein(a, b) == naive.edit_distance(a, b)


def test_edit_distance_equals_its_table_beyond_a_machine_word():
    generator = random.Random(1)
    a = [generator.randrange(30) for _ in range(150)]
    b = [generator.randrange(30) for _ in range(200)]
    assert levenshtein(a, b) == naive.edit_distance(a, b)


def test_normalized_edit_distance_leaves_the_end_token_out():
    assert normalized_edit_distance(make_pair(0, [1], [5, END], [6, END])) == 1.0
    assert normalized_edit_distance(make_pair(0, [1], [5, 6, 7, END], [5, 7, END])) == (
        pytest.approx(1 / 3)
    )
    assert normalized_edit_distance(make_pair(0, [1], [END], [END])) == 0.0
