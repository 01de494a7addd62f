"""What happens to a distribution where one token is pushed down alone (docs/theory.md, eq. 25)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from chesboard.probing.prediction import predict, prediction_kind, squeezed_changes
from tests.tiny_models import END, make_pair

V = 50


def peaked(seed: int = 0) -> Tensor:
    """Logits of a distribution with one peak and a long valley."""
    torch.manual_seed(seed)
    logits_V = torch.randn(V, dtype=torch.float64) * 0.5
    logits_V[7] += 5
    return logits_V


def pushed_down(logits_V: Tensor, token: int, rate: float) -> Tensor:
    """The distribution after one gradient step that lowers log p(token)."""
    logits_V = logits_V.clone().requires_grad_()
    [gradient_V] = torch.autograd.grad(torch.log_softmax(logits_V, -1)[token], logits_V)
    return torch.softmax(logits_V.detach() - rate * gradient_V, -1)


@given(st.integers(0, 1000), st.integers(0, V - 1))
def test_prediction_is_the_first_order_change_of_the_softmax(seed: int, token: int) -> None:
    logits_V = peaked(seed)
    p_V = torch.softmax(logits_V, -1)
    small = 1e-6
    measured_V = (pushed_down(logits_V, token, small) - p_V) / small
    torch.testing.assert_close(squeezed_changes(p_V, token), measured_V, rtol=1e-4, atol=1e-8)


def test_prediction_is_the_formula_and_sums_to_zero() -> None:
    p_V = torch.softmax(peaked(), -1)
    predicted_V = squeezed_changes(p_V, 3)
    for z in range(V):
        by_hand = p_V[z] * (p_V[z] - int(z == 3) + p_V[3] - (p_V**2).sum())
        assert predicted_V[z].item() == pytest.approx(by_hand.item(), abs=1e-15)
    assert predicted_V.sum().item() == pytest.approx(0, abs=1e-15)


def test_pushing_down_a_valley_token_raises_the_argmax_and_lowers_all_others() -> None:
    logits_V = peaked()
    p_V = torch.softmax(logits_V, -1)
    valley = int(p_V.argmin())
    change_V = pushed_down(logits_V, valley, rate=4.0) - p_V
    assert int(change_V.argmax()) == int(p_V.argmax()) == 7
    assert int((change_V < 0).sum()) == V - 1
    # The prediction says so: one gainer, and it is the argmax.
    assert torch.nonzero(squeezed_changes(p_V, valley) > 0).flatten().tolist() == [7]


def test_squeezing_is_predicted_behind_the_fork_of_the_dispreferred_response_only() -> None:
    pair = make_pair(0, [1, 2], [5, 6, 7, END], [5, 8, 9, END])
    assert pair.fork_position == 1
    assert prediction_kind(pair, "dispreferred", 2) == "squeezing"
    assert prediction_kind(pair, "dispreferred", 1) == "geometry"
    assert prediction_kind(pair, "preferred", 2) == "geometry"
    torch.manual_seed(0)
    W_VD, p_V = torch.randn(V, 8), torch.softmax(peaked(), -1)
    found = predict(W_VD, p_V, pair, "dispreferred", 2, cross_entropy=False)
    assert found is not None
    assert torch.equal(found, squeezed_changes(p_V, 9))
    assert predict(W_VD, p_V, pair, "dispreferred", 2, cross_entropy=True) is None
    assert predict(W_VD, p_V, pair, "preferred", 0, cross_entropy=False) is None
