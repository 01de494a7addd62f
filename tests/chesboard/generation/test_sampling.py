import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from chesboard.generation import sampling as module
from chesboard.generation.sampling import Sampling, draws, next_tokens


def random_logits(rows: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 3


def naive_token(probs: np.ndarray, drawn: float) -> int:
    """The first token at whose end the cumulative distribution is beyond the number."""
    end = 0.0
    for token_id, prob in enumerate(probs):
        end += prob
        if end > drawn * probs.sum():
            return token_id
    raise AssertionError("the distribution has no mass")


def expected_probs(logits_V: torch.Tensor, sampling: Sampling) -> np.ndarray:
    """As transformers' own sampling has them, in float64."""
    scores_1V = TemperatureLogitsWarper(sampling.temperature)(None, logits_V[None].double())
    if sampling.top_p < 1:
        scores_1V = TopPLogitsWarper(sampling.top_p)(None, scores_1V)
    return torch.softmax(scores_1V, -1)[0].numpy()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-6])
def test_a_token_is_chosen_where_its_number_falls(temperature: float, top_p: float) -> None:
    sampling = Sampling(temperature, top_p)
    logits_BV = random_logits(200, 50)
    drawn_B = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = next_tokens(logits_BV, sampling, drawn_B).tolist()
    assert found == [
        naive_token(expected_probs(logits_V, sampling), drawn)
        for logits_V, drawn in zip(logits_BV, drawn_B.tolist(), strict=True)
    ]


def test_a_nucleus_is_the_same_however_many_tokens_are_looked_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits_BV = random_logits(64, 300)
    drawn_B = torch.linspace(0, 0.999, 64, dtype=torch.float64)
    whole = next_tokens(logits_BV, Sampling(2.0, 0.95), drawn_B)
    monkeypatch.setattr(module, "NUCLEUS_GUESS", 4)
    assert torch.equal(next_tokens(logits_BV, Sampling(2.0, 0.95), drawn_B), whole)


def test_frequencies_are_the_probabilities() -> None:
    logits_V = random_logits(1, 6)[0]
    drawn = torch.from_numpy(draws(7, 0, 0, 20_000))
    found = next_tokens(logits_V.expand(20_000, -1), Sampling(), drawn)
    frequencies = torch.bincount(found, minlength=6) / 20_000
    torch.testing.assert_close(frequencies, torch.softmax(logits_V, -1), atol=0.01, rtol=0)


def test_temperature_zero_takes_the_likeliest_whatever_is_drawn() -> None:
    logits_BV = random_logits(5, 9)
    found = next_tokens(logits_BV, Sampling(0.0, 0.5), torch.full((5,), 0.99).double())
    assert torch.equal(found, logits_BV.argmax(-1))


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=12),
    st.floats(0, 1, exclude_max=True),
    st.floats(1e-3, 10),
    st.floats(1e-3, 1),
)
def test_no_token_of_probability_zero_is_chosen(
    logits: list[float], drawn: float, temperature: float, top_p: float
) -> None:
    sampling = Sampling(temperature, top_p)
    logits_1V = torch.tensor([logits])
    [found] = next_tokens(logits_1V, sampling, torch.tensor([drawn], dtype=torch.float64)).tolist()
    assert torch.softmax((logits_1V - logits_1V.max()) / temperature, -1)[0, found] > 0


def test_the_largest_number_below_one_chooses_a_token_with_mass() -> None:
    largest = torch.tensor([np.nextafter(1.0, 0.0)], dtype=torch.float64)
    logits_1V = torch.tensor([[0.0, 1.0, -torch.inf, -torch.inf]])
    assert next_tokens(logits_1V, Sampling(), largest).tolist() == [1]


def test_rows_that_are_not_finite_still_give_a_token() -> None:
    logits_1V = torch.full((1, 4), torch.nan)
    [found] = next_tokens(logits_1V, Sampling(), torch.tensor([0.5]).double()).tolist()
    assert 0 <= found < 4


def test_a_longer_answer_draws_the_same_numbers_first() -> None:
    assert draws(3, 5, 1, 40)[:10].tolist() == draws(3, 5, 1, 10).tolist()


def test_no_two_answers_draw_alike() -> None:
    keys = [(seed, pair, sample) for seed in range(3) for pair in range(3) for sample in range(3)]
    assert len({tuple(draws(*key, 4)) for key in keys}) == len(keys)
