"""Forecasts against autograd of the losses, and against steps of training at the head."""

import copy
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chesboard.configs import TrainConfig
from chesboard.configs.objective import OBJECTIVES
from chesboard.forecast import (
    REMEDIES,
    ScoredPairs,
    falls,
    first_push,
    preferred_shift,
    rises,
    smallest_remedy,
)
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.objectives import PairLogprobs, losses, pushes
from chesboard.scoring import score_pairs
from tests.tiny_models import END, GoOn, KeepingReporter, load, make_pair, random_pairs

NORMS = st.floats(0.01, 50)
PAIRS = st.builds(
    ScoredPairs,
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
    config: TrainConfig, pair: ScoredPairs
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
    pair = ScoredPairs(-5.0, -6.0, 3, 4, 0.9, 2.0, 3.0)
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
    config = TrainConfig(objective="dpo", beta=beta)
    most = float(smallest_remedy("dpo_shift_lambda", config, pair))

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


def together(pairs: list[ScoredPairs]) -> ScoredPairs:
    """As arrays of shape (pairs,)."""
    names = [one.name for one in fields(ScoredPairs)]
    return ScoredPairs(*(np.array([getattr(pair, name) for pair in pairs]) for name in names))


def push_by_hand(config: TrainConfig, pair) -> tuple[float, float, float]:
    """Equation 22 with floats, without the added SFT term; and how closely doubles give it."""
    beta, n, m = config.beta, pair.preferred_tokens, pair.dispreferred_tokens
    u, v = pair.preferred_logprob / n, pair.dispreferred_logprob / m
    alpha, kept = config.alphapo_alpha, 1 - 2 * config.label_smoothing

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x)) if x > -700 else 0.0

    rewards = [
        -beta * math.expm1(-alpha * mean) / alpha if alpha else beta * mean for mean in (u, v)
    ]
    shaped = beta * sigmoid(config.simpo_gamma - rewards[0] + rewards[1])
    simple = beta * sigmoid(config.simpo_gamma - beta * (u - v))
    a, b = (1 / n, 1 / m) if config.length_normalize else (1, 1)
    by_objective = {
        "dpo": (beta / 2 * (1 / kept if config.robust else kept),) * 2,
        "odpo": (beta * sigmoid(config.odpo_alpha * pair.offset),) * 2,
        "dpo_shift": (beta / 2, beta / 2 * config.dpo_shift_lambda),
        "bdpo": (beta / 2, beta / 2 * config.bdpo_lambda),
        "cal_dpo": (0.5 + 0.5 / beta,) * 2,
        "apo_zero": (beta / 4, beta / 4),
        "ipo": (a / beta, b / beta),
        "slic": (beta, beta),
        "simpo": (simple / n, simple / m),
        "alphapo": (shaped * math.exp(-alpha * u) / n, shaped * math.exp(-alpha * v) / m),
        "cross_entropy": (a, 0),
    }
    # Large rewards have as many digits as others, their difference has fewer.
    largest = sum(map(abs, rewards)) if config.objective == "alphapo" else 0
    return *by_objective[config.objective], 1e-12 * (1 + largest)


@given(CONFIGS, st.lists(PAIRS, max_size=6))
def test_arrays_of_pairs_come_to_the_formulas_written_out_for_each(config, pairs) -> None:
    many = together(pairs)
    push = first_push(config, many)
    ups, downs = (np.broadcast_to(side, len(pairs)) for side in push)
    shifts, fall, rise = (
        np.asarray(function(push, many)) for function in (preferred_shift, falls, rises)
    )
    remedies = {remedy: np.asarray(smallest_remedy(remedy, config, many)) for remedy in REMEDIES}
    assert {len(values) for values in (shifts, fall, rise, *remedies.values())} == {len(pairs)}
    for k, pair in enumerate(pairs):
        own, other = pair.preferred_grad_norm, pair.dispreferred_grad_norm
        inner = pair.head_cosine * own * other
        plain, down, close = push_by_hand(config, pair)
        unit = 1 / pair.preferred_tokens if config.length_normalize else 1
        up = plain + config.sft_coef * unit
        assert (ups[k], downs[k]) == pytest.approx((up, down), rel=close, abs=1e-250)
        rounding = 1e-250 + close * (up * own**2 + abs(down * inner))
        shift = up * own**2 - down * inner
        assert shifts[k] == pytest.approx(shift, rel=0, abs=rounding)
        if abs(shift) > rounding:
            assert fall[k] == (shift < 0)
        other_shift = up * inner - down * other**2
        if abs(other_shift) > 1e-250 + close * (abs(up * inner) + down * other**2):
            assert rise[k] == (other_shift > 0)
        lacking = max(0, down * inner / own**2 - plain)
        rounding = 1e-250 + close * (plain + abs(down * inner) / own**2)
        found = {remedy: values[k] for remedy, values in remedies.items()}
        assert found["sft_coef"] * unit == pytest.approx(lacking, rel=0, abs=rounding)
        penalty = found["dpop_lambda"] * config.beta / 2
        assert penalty == pytest.approx(lacking, rel=0, abs=rounding)
        least = 1 if inner <= own**2 else own**2 / inner
        assert found["dpo_shift_lambda"] == pytest.approx(least, rel=1e-12)


def test_one_number_may_stand_for_all_pairs_or_an_array_for_each() -> None:
    pair = ScoredPairs(-5.0, -6.0, 3, 4, 0.9, 2.0, 3.0)
    config = TrainConfig(objective="simpo")
    one, many = first_push(config, pair), first_push(config, together([pair, pair]))
    assert [np.asarray(side).tolist() for side in many] == [[side, side] for side in one]
    assert [np.shape(side) for side in first_push(config, together([]))] == [(0,), (0,)]


MEASURED = [name for name in ScoredPairs.__dataclass_fields__ if name != "offset"]


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
        scored = ScoredPairs(*(getattr(record, name) for name in MEASURED))
        norm, other_norm = record.preferred_grad_norm, record.dispreferred_grad_norm
        assert norm is not None
        assert other_norm is not None
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
        expected = float(preferred_shift(push, scored))
        size = float(push.preferred) * norm**2
        fallen.append(change < 0)
        assert change == pytest.approx(expected, rel=0.05, abs=0.02 * size)
        if abs(expected) > 0.1 * size:
            assert falls(push, scored) == (change < 0)
        other = float(states.dispreferred_logprobs_B() - before[1].detach()) / rate
        if abs(other) > 0.1 * push.dispreferred * other_norm**2:
            assert rises(push, scored) == (other > 0)
    assert set(fallen) == {True, False}  # both signs were put to the test
