import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chesboard.configs import TrainConfig
from chesboard.configs.objective import OBJECTIVES, ignored_settings, notices
from chesboard.objectives import PairLogprobs, at_progress, both_cross_entropy, losses, pushes

NATS = st.floats(-60, 0)
BETA = st.floats(0.05, 3)


def vector(value):
    return torch.tensor([value], dtype=torch.float64)


def logprobs(
    preferred=-4.0, dispreferred=-10.0, reference=(-6.0, -9.0), tokens=(2, 5), offset=None
):
    """r+ = 2, r- = -1, so m = 3 unless said otherwise."""
    plain = PairLogprobs(*map(vector, [preferred, dispreferred, *reference, *tokens]))
    return replace(plain, offset_B=None if offset is None else vector(offset))


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
        ({"objective": "dpo_shift", "beta": 0.5, "dpo_shift_lambda": 0.5}, minus_log_sigmoid(1.25)),
        # (2 - 1)^2 and (-1 + 1)^2
        ({"objective": "cal_dpo", "beta": 0.5}, minus_log_sigmoid(3) + 0.5),
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
    reference = [vector(value) for value in (-6.0, -9.0, 2, 5)]

    def loss(preferred_B, dispreferred_B):
        at_B = PairLogprobs(preferred_B, dispreferred_B, *reference)
        return losses(replace(at_B, offset_B=vector(0.7)), config)

    inputs = [
        torch.tensor([value], dtype=torch.float64, requires_grad=True)
        for value in (preferred, -10.0)
    ]
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize(
    "objective", ["dpo", "dpop", "simpo", "odpo", "dpo_shift", "bdpo", "apo_zero"]
)
def test_extreme_margins_stay_finite(objective):
    for preferred in (-1e5, 1e5):
        extreme = logprobs(preferred=preferred, offset=1.0)
        loss = losses(extreme, TrainConfig(objective=objective, beta=100.0))
        assert torch.isfinite(loss).all()


def test_untouched_policy_has_the_loss_of_a_zero_margin():
    at_reference = logprobs(preferred=-6.0, dispreferred=-9.0)
    assert losses(at_reference, TrainConfig()).item() == pytest.approx(math.log(2))


# --- the formulas, written out naively in float64 -----------------------------------------------


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def naive(config, z_w, z_l, ref_w, ref_l, n, m, offset):
    r_w, r_l = z_w - ref_w, z_l - ref_l
    beta = config.beta
    match config.objective:
        case "odpo":
            loss = -math.log(sigmoid(beta * (r_w - r_l) - config.odpo_alpha * offset))
        case "dpo_shift":
            share = config.dpo_shift_lambda
            loss = -math.log(sigmoid(beta * ((z_w - share * z_l) - (ref_w - share * ref_l))))
        case "bdpo":
            mixture = config.bdpo_lambda * math.exp(r_l) + (1 - config.bdpo_lambda)
            loss = -math.log(sigmoid(beta * r_w - beta * math.log(mixture)))
        case "cal_dpo":
            loss = -math.log(sigmoid(r_w - r_l))
            loss += ((r_w - 0.5 / beta) ** 2 + (r_l + 0.5 / beta) ** 2) / 2
        case "apo_zero":
            loss = 1 - sigmoid(beta * r_w) + sigmoid(beta * r_l)
        case "alphapo":
            p_w, p_l, alpha = math.exp(z_w / n), math.exp(z_l / m), config.alphapo_alpha
            reward_w = beta * (1 - p_w**-alpha) / alpha
            reward_l = beta * (1 - p_l**-alpha) / alpha
            loss = -math.log(sigmoid(reward_w - reward_l - config.simpo_gamma))
    per_token = n if config.length_normalize else 1
    return loss - config.sft_coef * z_w / per_token


NEW = st.builds(
    TrainConfig,
    objective=st.sampled_from(["odpo", "dpo_shift", "bdpo", "cal_dpo", "apo_zero", "alphapo"]),
    beta=BETA,
    sft_coef=st.sampled_from([0.0, 0.3]),
    length_normalize=st.booleans(),
    odpo_alpha=st.floats(0, 2),
    dpo_shift_lambda=st.floats(0.1, 1),
    bdpo_lambda=st.floats(0.05, 1),
    alphapo_alpha=st.floats(0.05, 0.5) | st.floats(-0.5, -0.05),
)
VALUES = st.tuples(
    *(st.floats(-15, -0.1) for _ in range(4)),
    *(st.integers(4, 30) for _ in range(2)),
    st.floats(-2, 2),
)


@given(NEW, VALUES)
def test_value_and_gradient_equal_the_formulas(config, values):
    z_w, z_l, *rest = values
    given_B = replace(PairLogprobs(*map(vector, values[:-1])), offset_B=vector(values[-1]))
    assert losses(given_B, config).item() == pytest.approx(naive(config, *values), rel=1e-9)
    step = 1e-5
    up, down = pushes(given_B, config)
    for push, sign, moved in ((up, -1, (step, 0.0)), (down, 1, (0.0, step))):
        higher = naive(config, z_w + moved[0], z_l + moved[1], *rest)
        lower = naive(config, z_w - moved[0], z_l - moved[1], *rest)
        difference = sign * (higher - lower) / (2 * step)
        assert push.item() == pytest.approx(difference, rel=1e-5, abs=1e-6)


ARBITRARY = st.tuples(NATS, NATS, NATS, NATS)


def at(values, **more):
    return PairLogprobs(*map(vector, (*values, 3, 4)), **more)


@given(ARBITRARY, BETA, st.floats(0, 5))
def test_odpo_with_offset_zero_is_dpo_bit_for_bit(values, beta, alpha):
    ours = losses(
        at(values, offset_B=vector(0.0)),
        TrainConfig(objective="odpo", beta=beta, odpo_alpha=alpha),
    )
    assert torch.equal(ours, losses(at(values), TrainConfig(beta=beta)))


@given(ARBITRARY, BETA)
def test_the_ends_of_a_coefficient_are_other_objectives(values, beta):
    dpo = losses(at(values), TrainConfig(beta=beta))
    for one in (
        {"objective": "dpo_shift", "dpo_shift_lambda": 1.0},
        {"objective": "bdpo", "bdpo_lambda": 1.0},
    ):
        torch.testing.assert_close(losses(at(values), TrainConfig(beta=beta, **one)), dpo)
    simpo = losses(at(values), TrainConfig(objective="simpo", beta=beta))
    for alpha in (0.0, 1e-9):
        config = TrainConfig(objective="alphapo", beta=beta, alphapo_alpha=alpha)
        torch.testing.assert_close(losses(at(values), config), simpo, rtol=1e-6, atol=1e-6)


@given(ARBITRARY, BETA, st.floats(0.01, 0.45))
def test_robust_undoes_on_average_what_wrong_preferences_do(values, beta, wrong):
    """Over pairs of which a share is turned round, its mean is dpo's loss of the right pairs."""
    robust = TrainConfig(beta=beta, label_smoothing=wrong, robust=True)
    z_w, z_l, ref_w, ref_l = values
    right, turned = at(values), at((z_l, z_w, ref_l, ref_w))
    expected = (1 - wrong) * losses(right, robust) + wrong * losses(turned, robust)
    torch.testing.assert_close(expected, losses(right, TrainConfig(beta=beta)))


def test_a_linear_shift_goes_from_its_start_to_dpo():
    config = TrainConfig(objective="dpo_shift", dpo_shift_lambda=0.6, dpo_shift_schedule="linear")
    shares = [at_progress(config, progress).dpo_shift_lambda for progress in (0, 0.25, 1)]
    assert shares == pytest.approx([0.6, 0.7, 1.0])
    fixed = TrainConfig(objective="dpo_shift", dpo_shift_lambda=0.6)
    assert at_progress(fixed, 0.5).dpo_shift_lambda == 0.6


def test_the_first_phase_is_the_mean_of_both_cross_entropies():
    assert both_cross_entropy(logprobs(), TrainConfig()).item() == 7.0  # (4 + 10) / 2
    per_token = both_cross_entropy(logprobs(), TrainConfig(length_normalize=True)).item()
    assert per_token == 2.0  # (4/2 + 10/5) / 2


# --- which settings an objective reads ----------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "ipo", "label_smoothing": 0.1}, "is an option of dpo; ipo does not read it"),
        ({"objective": "odpo", "ld_alpha": 0.5}, "is an option of dpo"),
        ({"objective": "dpo", "robust": True}, "needs label_smoothing above 0"),
        ({"objective": "dpo", "label_smoothing": 0.5}, "less than 0.5"),
    ],
)
def test_options_that_would_be_ignored_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_exactly_the_settings_that_change_the_loss_are_read(objective):
    """Pair and reference differ, and the tails too, so that every setting shows."""
    changed = {
        "beta": 0.7,
        "slic_delta": 3.0,
        "simpo_gamma": 2.0,
        "dpop_lambda": 9.0,
        "odpo_alpha": 3.0,
        "dpo_shift_lambda": 0.3,
        "bdpo_lambda": 0.9,
        "alphapo_alpha": -0.4,
        "length_normalize": True,
    }
    falling = (-7.0, -9.5, -6.0, -9.0)
    plain = losses(at(falling, offset_B=vector(0.4)), TrainConfig(objective=objective))
    for name, value in changed.items():
        config = TrainConfig(objective=objective, **{name: value})
        is_ignored = torch.equal(losses(at(falling, offset_B=vector(0.4)), config), plain)
        assert is_ignored == (name in ignored_settings(config)), name


def test_notices_say_what_has_no_effect_and_what_diverges():
    assert notices(TrainConfig()) == []
    [ignored] = notices(TrainConfig(objective="bdpo", dpop_lambda=50))
    assert ignored == "dpop_lambda has no effect under bdpo."
    assert notices(TrainConfig(objective="cal_dpo", beta=0.05)) == []
    [torn] = notices(TrainConfig(objective="cal_dpo", beta=0.001))
    assert "500 nats" in torn
    assert "0.05 or more" in torn
