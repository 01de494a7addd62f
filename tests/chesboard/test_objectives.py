import math

import pytest
import torch

from chesboard.configs import TrainConfig
from chesboard.objectives import PairLogprobs, losses

OBJECTIVES = ["dpo", "ipo", "slic", "simpo", "dpop", "cross_entropy"]


def logprobs(preferred=-4.0, dispreferred=-10.0, reference=(-6.0, -9.0), tokens=(2, 5)):
    """r+ = 2, r- = -1, so m = 3 unless said otherwise."""
    values = [preferred, dispreferred, *reference, *tokens]
    return PairLogprobs(*(torch.tensor([value], dtype=torch.float64) for value in values))


def minus_log_sigmoid(x):
    return math.log(1 + math.exp(-x))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"objective": "dpo", "beta": 0.5}, minus_log_sigmoid(0.5 * 3)),
        ({"objective": "ipo", "beta": 0.25}, (3 - 2) ** 2),
        # 2/2 - (-1)/5 = 1.2
        ({"objective": "ipo", "beta": 0.25, "length_normalize": True}, (1.2 - 2) ** 2),
        ({"objective": "slic", "beta": 0.1, "slic_delta": 1.0}, 1 - 0.3),
        ({"objective": "slic", "beta": 1.0, "slic_delta": 1.0}, 0.0),
        # -4/2 - -10/5 = 0
        ({"objective": "simpo", "beta": 2.0, "simpo_gamma": 0.5}, minus_log_sigmoid(-0.5)),
        ({"objective": "dpop", "beta": 0.5}, minus_log_sigmoid(0.5 * 3)),
        ({"objective": "cross_entropy"}, 4.0),
        ({"objective": "cross_entropy", "length_normalize": True}, 2.0),
        ({"objective": "dpo", "beta": 0.5, "sft_coef": 0.1}, minus_log_sigmoid(1.5) + 0.4),
        (
            {"objective": "dpo", "beta": 0.5, "sft_coef": 0.1, "length_normalize": True},
            minus_log_sigmoid(1.5) + 0.2,
        ),
    ],
)
def test_losses_equal_numbers_worked_by_hand(config, expected):
    assert losses(logprobs(), TrainConfig(**config)).item() == pytest.approx(expected, rel=1e-12)


def test_dpop_punishes_a_falling_preferred_response():
    """r+ = -1, r- = -4: m = 3, and the penalty is lambda times 1."""
    config = TrainConfig(objective="dpop", beta=0.5, dpop_lambda=5.0)
    loss = losses(logprobs(preferred=-7.0, dispreferred=-13.0), config)
    assert loss.item() == pytest.approx(minus_log_sigmoid(0.5 * (3 - 5)), rel=1e-12)


@pytest.mark.parametrize("length_normalize", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("preferred", [-4.0, -7.0], ids=["rising", "falling"])
def test_gradients_equal_finite_differences(objective, length_normalize, preferred):
    config = TrainConfig(
        objective=objective, beta=0.3, sft_coef=0.2, length_normalize=length_normalize
    )
    reference = [torch.tensor([value], dtype=torch.float64) for value in (-6.0, -9.0, 2, 5)]

    def loss(preferred_B, dispreferred_B):
        return losses(PairLogprobs(preferred_B, dispreferred_B, *reference), config)

    inputs = [
        torch.tensor([value], dtype=torch.float64, requires_grad=True)
        for value in (preferred, -10.0)
    ]
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("objective", ["dpo", "dpop", "simpo"])
def test_extreme_margins_stay_finite(objective):
    for preferred in (-1e5, 1e5):
        loss = losses(logprobs(preferred=preferred), TrainConfig(objective=objective, beta=100.0))
        assert torch.isfinite(loss).all()


def test_untouched_policy_has_the_loss_of_a_zero_margin():
    at_reference = logprobs(preferred=-6.0, dispreferred=-9.0)
    assert losses(at_reference, TrainConfig()).item() == pytest.approx(math.log(2))
