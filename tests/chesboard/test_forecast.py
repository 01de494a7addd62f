"""Forecasts against autograd of the losses, and against steps of training at the head."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chesboard.configs import TrainConfig
from chesboard.configs.objective import OBJECTIVES
from chesboard.forecast import (
    REMEDIES,
    ScoredPair,
    falls,
    first_push,
    preferred_shift,
    rises,
    smallest_remedies,
    smallest_remedy,
)
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.objectives import PairLogprobs, losses, pushes
from chesboard.scoring import score_pairs
from tests.tiny_models import END, GoOn, KeepingReporter, load, make_pair, random_pairs

NORMS = st.floats(0.01, 50)
PAIRS = st.builds(
    ScoredPair,
    st.floats(-80, -0.1),
    st.floats(-80, -0.1),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(-1, 1),
    NORMS,
    NORMS,
    st.floats(-5, 5),
)
COEFFICIENTS = {
    "beta": st.floats(0.01, 2),
    "sft_coef": st.floats(0, 1),
    "length_normalize": st.booleans(),
    "simpo_gamma": st.floats(0, 3),
    "odpo_alpha": st.floats(0, 3),
    "dpo_shift_lambda": st.floats(0.1, 1),
    "bdpo_lambda": st.floats(0.1, 1),
    "alphapo_alpha": st.floats(0.01, 1) | st.just(0.0) | st.floats(-1, -0.01),
}
PLAIN = st.builds(
    TrainConfig,
    objective=st.sampled_from([name for name in OBJECTIVES if name != "dpop"]),
    **COEFFICIENTS,
)
SMOOTHED = st.builds(
    TrainConfig,
    label_smoothing=st.floats(0.01, 0.4),
    robust=st.booleans(),
    **COEFFICIENTS,
)
CONFIGS = PLAIN | SMOOTHED


@given(CONFIGS, PAIRS)
def test_the_push_is_the_gradient_of_the_loss_at_the_reference(
    config: TrainConfig, pair: ScoredPair
) -> None:
    preferred = torch.tensor([pair.preferred_logprob], dtype=torch.float64)
    dispreferred = torch.tensor([pair.dispreferred_logprob], dtype=torch.float64)
    logprobs = PairLogprobs(
        preferred,
        dispreferred,
        preferred,
        dispreferred,
        torch.tensor([pair.preferred_tokens]),
        torch.tensor([pair.dispreferred_tokens]),
        offset_B=torch.tensor([pair.offset], dtype=torch.float64),
    )
    up, down = pushes(logprobs, config)
    push = first_push(config, pair)
    assert push.preferred == pytest.approx(up.item(), rel=1e-6)
    assert push.dispreferred == pytest.approx(down.item(), rel=1e-6)


def test_dpop_pushes_as_its_loss_does_once_the_preferred_response_has_fallen() -> None:
    config = TrainConfig(objective="dpop", beta=0.3, dpop_lambda=4.0)
    pair = ScoredPair(-5.0, -6.0, 3, 4, 0.9, 2.0, 3.0)
    preferred = torch.tensor([-5.0 - 1e-9], dtype=torch.float64, requires_grad=True)
    dispreferred = torch.tensor([-6.0], dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([3]), torch.tensor([4])
    reference = torch.tensor([-5.0], dtype=torch.float64), dispreferred.detach()
    losses(PairLogprobs(preferred, dispreferred, *reference, *counts), config).backward()
    assert preferred.grad is not None
    assert first_push(config, pair).preferred == pytest.approx(-float(preferred.grad), rel=1e-6)


@given(CONFIGS.filter(lambda config: config.objective != "cross_entropy"), PAIRS)
def test_the_smallest_sft_term_is_the_border_of_a_fall(config, pair) -> None:
    least = smallest_remedy("sft_coef", config, pair)
    more = config.model_copy(update={"sft_coef": 1.01 * least + 1e-9})
    assert not falls(first_push(more, pair), pair)
    if least > 1e-6:
        less = config.model_copy(update={"sft_coef": 0.99 * least})
        assert falls(first_push(less, pair), pair)


@given(st.floats(0.01, 2), PAIRS)
def test_the_smallest_penalty_is_the_border_of_a_fall(beta, pair) -> None:
    least = smallest_remedy("dpop_lambda", TrainConfig(objective="dpo", beta=beta), pair)
    more = TrainConfig(objective="dpop", beta=beta, dpop_lambda=1.01 * least + 1e-9)
    assert not falls(first_push(more, pair), pair)
    if least > 1e-6:
        less = TrainConfig(objective="dpop", beta=beta, dpop_lambda=0.99 * least)
        assert falls(first_push(less, pair), pair)


@given(st.floats(0.01, 2), PAIRS)
def test_the_largest_shift_is_the_border_of_a_fall(beta, pair) -> None:
    """Against float64 arithmetic by hand: z+ moves by d+ |s+|^2 - d- <s+, s->, d- = lambda d+."""
    most = smallest_remedy("dpo_shift_lambda", TrainConfig(objective="dpo", beta=beta), pair)

    def moves(lam: float) -> float:
        inner = pair.head_cosine * pair.preferred_grad_norm * pair.dispreferred_grad_norm
        return beta / 2 * pair.preferred_grad_norm**2 - lam * beta / 2 * inner

    assert 0 < most <= 1
    rounding = 1e-12 * beta * pair.preferred_grad_norm**2
    assert moves(0.99 * most) > 0
    assert moves(most) >= -rounding
    if most < 1:
        assert moves(1) < rounding
        assert moves(1.01 * most) < 0
        shifted = TrainConfig(objective="dpo_shift", beta=beta, dpo_shift_lambda=0.99 * most)
        assert not falls(first_push(shifted, pair), pair)


@given(CONFIGS, st.lists(PAIRS, max_size=5))
def test_remedies_of_many_pairs_are_those_of_each(config: TrainConfig, pairs) -> None:
    found = smallest_remedies(REMEDIES, config, pairs)
    assert set(found) == set(REMEDIES)
    for remedy, values in found.items():
        assert values == [smallest_remedy(remedy, config, pair) for pair in pairs]


MEASURED = [name for name in ScoredPair.__dataclass_fields__ if name != "offset"]


@pytest.mark.parametrize("objective", ["dpo", "ipo", "dpo_shift", "cal_dpo"])
def test_one_step_at_the_head_moves_both_responses_as_forecast(objective: str) -> None:
    """Sign and size, by a small step of gradient descent on the unembedding of its own."""
    loaded = load("untied llama")
    pairs = [pair for pair in random_pairs(12, seed=9) if not pair.has_same_tokens]
    # A dispreferred response that says the preferred one over and over.
    pairs += [make_pair(90 + k, [3, 4, k], [7, END], [7] * k + [END]) for k in range(4, 9)]
    config = TrainConfig(objective=objective, beta=0.1)
    reporter = KeepingReporter()
    score_pairs(loaded, pairs, config, reporter, GoOn())
    fallen: list[bool] = []
    for pair, record in zip(
        pairs, sorted(reporter.score_records, key=lambda r: r.pair), strict=True
    ):
        scored = ScoredPair(*(getattr(record, name) for name in MEASURED))
        norm, other_norm = scored.preferred_grad_norm, scored.dispreferred_grad_norm
        push = first_push(config, scored)
        moved = copy.deepcopy(loaded)
        weight = moved.model.get_output_embeddings().weight
        forward = SharedPrefixForward(moved)
        states = forward([pair])
        before = states.preferred_logprobs_B(), states.dispreferred_logprobs_B()
        # The gradient of the loss by the chain rule: -d+ grad z+ + d- grad z-.
        loss = push.dispreferred * before[1] - push.preferred * before[0]
        (gradient,) = torch.autograd.grad(loss.sum(), weight)
        rate = 1e-3 / float(gradient.norm())
        with torch.no_grad():
            weight -= rate * gradient
            states = forward([pair])
        change = float(states.preferred_logprobs_B() - before[0].detach()) / rate
        expected = preferred_shift(push, scored)
        size = push.preferred * norm**2
        fallen.append(change < 0)
        assert change == pytest.approx(expected, rel=0.05, abs=0.02 * size)
        if abs(expected) > 0.1 * size:
            assert falls(push, scored) == (change < 0)
        other = float(states.dispreferred_logprobs_B() - before[1].detach()) / rate
        if abs(other) > 0.1 * push.dispreferred * other_norm**2:
            assert rises(push, scored) == (other > 0)
    assert set(fallen) == {True, False}  # both signs were put to the test
