import pytest
import torch

from chesboard.forward.states import PairStates, ResponseIndex
from chesboard.measures.ches import (
    ches,
    hidden_measures,
    last_hidden_inner_product,
    length_normalized_ches,
)


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


def test_a_batch_gives_the_values_of_the_formulas_for_one_pair():
    generator = torch.Generator().manual_seed(3)
    preferred, dispreferred = (torch.randn(n, 16, generator=generator) for n in (5, 9))
    batch = hidden_measures(states_of(preferred, dispreferred))
    for values, formula in (
        (batch.ches_B, ches),
        (batch.ln_ches_B, length_normalized_ches),
        (batch.last_hidden_inner_product_B, last_hidden_inner_product),
    ):
        assert values.item() == pytest.approx(formula(preferred, dispreferred).item(), rel=1e-5)
