import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chesboard.probing.ledger import (
    distribution,
    kl_divergence,
    make_ledger,
    ranks,
    watched_tokens,
)
from chesboard.probing.prediction import (
    likelihood_direction,
    predicted_changes,
    preference_direction,
)

V, D = 40, 16


def test_ledger_of_numbers_worked_by_hand():
    initial = torch.tensor([0.5, 0.2, 0.2, 0.1])
    now = torch.tensor([0.1, 0.5, 0.2, 0.2])
    ledger = make_ledger(initial, now, top=1)
    [gainer], [loser] = ledger.gainers, ledger.losers
    assert gainer[0] == 1
    assert gainer[1] == pytest.approx(0.3)
    assert loser[0] == 0
    assert loser[1] == pytest.approx(-0.4)
    assert ledger.rest_change == pytest.approx(0.1)
    assert ledger.moved_mass == pytest.approx(0.4)


logits = st.lists(st.floats(-50, 50), min_size=V, max_size=V).map(torch.tensor)


@given(logits, logits, st.integers(1, 60))
def test_ledger_always_balances(initial_logits, now_logits, top):
    initial = distribution(initial_logits).float()
    ledger = make_ledger(initial, distribution(now_logits), top)
    listed = [change for _, change in [*ledger.gainers, *ledger.losers]]
    assert sum(listed) + ledger.rest_change == pytest.approx(0, abs=1e-6)
    assert all(change > 0 for _, change in ledger.gainers)
    assert all(change < 0 for _, change in ledger.losers)
    assert len(ledger.gainers) <= top
    assert 0 <= ledger.moved_mass <= 1 + 1e-6
    tokens = [token_id for token_id, _ in [*ledger.gainers, *ledger.losers]]
    assert len(set(tokens)) == len(tokens)


def test_nothing_moved_lists_nothing():
    p = distribution(torch.arange(5.0))
    ledger = make_ledger(p, p, top=3)
    assert (ledger.gainers, ledger.losers, ledger.rest_change, ledger.moved_mass) == ([], [], 0, 0)


@given(logits, logits)
def test_divergence_is_that_of_the_definition(initial_logits, now_logits):
    initial, now = distribution(initial_logits), distribution(now_logits)
    naive = sum(
        p * (math.log(p) - math.log(q))
        for p, q in zip(now.tolist(), initial.tolist(), strict=True)
        if p > 0
    )
    found = kl_divergence(now, initial.float())
    if initial.min() > torch.finfo(torch.float32).tiny:
        assert found == pytest.approx(naive, rel=1e-6, abs=1e-12)
    assert 0 <= found < 90


def test_a_small_divergence_survives_the_rounding_of_the_initial_distribution():
    torch.manual_seed(0)
    logits = torch.randn(50_000, dtype=torch.float64) * 3
    initial = distribution(logits)
    assert kl_divergence(initial, initial.float()) < 1e-13
    now = distribution(logits + torch.randn(50_000, dtype=torch.float64) * 1e-5)
    naive = (now * (now.log() - initial.log())).sum().item()
    assert naive < 1e-9
    assert kl_divergence(now, initial.float()) == pytest.approx(naive, rel=1e-3)


def make_fork():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(V, D, generator=generator), torch.randn(D, generator=generator)


@pytest.mark.parametrize("direction", ["preference", "likelihood"])
def test_prediction_is_the_softmaxs_derivative_along_the_direction(direction):
    W_VD, h_D = make_fork()
    p = torch.softmax(W_VD.double() @ h_D.double(), -1)
    d_D = (
        preference_direction(W_VD, 4, 9)
        if direction == "preference"
        else likelihood_direction(W_VD, p, 4)
    )
    small = 1e-6
    moved = torch.softmax(W_VD.double() @ (h_D.double() + small * d_D.double()), -1)
    torch.testing.assert_close(
        predicted_changes(W_VD, p, d_D), (moved - p) / small, rtol=1e-3, atol=1e-5
    )


def test_prediction_sums_to_zero():
    W_VD, h_D = make_fork()
    predicted = predicted_changes(W_VD, distribution(W_VD @ h_D), preference_direction(W_VD, 0, 1))
    assert predicted.sum().item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("objective", ["dpo", "cross_entropy"])
def test_prediction_ranks_tokens_as_a_real_gradient_step_on_free_features_does(objective):
    """The theory's setting: the hidden state itself is trained, the unembedding is not."""
    W_VD, h_D = make_fork()
    h_D = h_D.double().requires_grad_()
    W = W_VD.double()
    logprobs = torch.log_softmax(W @ h_D, -1)
    p = logprobs.detach().exp()
    if objective == "dpo":
        margin = logprobs[4] - logprobs[9]
        loss = -torch.nn.functional.logsigmoid(0.1 * margin)
        direction = preference_direction(W_VD, 4, 9)
    else:
        loss = -logprobs[4]
        direction = likelihood_direction(W_VD, p, 4)
    loss.backward()
    moved = torch.softmax(W @ (h_D - 1e-4 * h_D.grad).detach(), -1)
    ranks = torch.stack(
        [(moved - p).argsort().argsort(), predicted_changes(W_VD, p, direction).argsort().argsort()]
    )
    assert torch.corrcoef(ranks.double())[0, 1] > 0.999


def test_watched_tokens_come_once_each_and_start_with_those_asked_for():
    initial = torch.softmax(torch.arange(float(V)), -1)
    predicted = torch.zeros(V)
    predicted[2], predicted[3] = 1.0, -1.0
    watched = watched_tokens(initial, predicted, always=[7, V - 1, 7], likely=3, predicted=2)
    assert watched == [7, V - 1, V - 2, V - 3, 2, 3]


def test_rank_is_the_place_by_change_in_the_whole_vocabulary():
    change = torch.tensor([0.1, -0.3, 0.25, 0.0, -0.05])
    assert ranks(change, [2, 1, 3]) == [1, 5, 3]


def test_where_theory_says_nothing_the_likeliest_are_watched():
    initial = torch.tensor([0.1, 0.5, 0.3, 0.1])
    assert watched_tokens(initial, None, always=[3], likely=2) == [3, 1, 2]
