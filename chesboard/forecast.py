"""Which preferred responses fall at the first step, and the smallest remedy that prevents it.

First order, plain gradient descent, gradients at the output head (`docs/theory.md`, equations 21
to 24). With the pushes d+ = -dL/dz+ and d- = dL/dz- of an objective at the start of training,
log p(y+) moves by d+ ||s+||^2 - d- <s+, s->, so it falls exactly if d+ / d- is below the required
ratio <s+, s-> / ||s+||^2. No torch: the web side computes forecasts from stored measures.

Every function takes one pair or many: numbers, or arrays of shape (pairs,).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from chesboard.configs import Objective, ObjectiveConfig

Values = float | NDArray[np.float64]
"""Of one pair or of many; also a number that is the same for each of many."""
Truths = np.bool_ | NDArray[np.bool_]

Remedy = Literal["sft_coef", "dpop_lambda", "dpo_shift_lambda"]
REMEDIES: tuple[Remedy, ...] = get_args(Remedy)
WITHOUT: Mapping[Remedy, float] = {"sft_coef": 0.0, "dpop_lambda": 0.0, "dpo_shift_lambda": 1.0}
"""The value at which each is none. The further from it, the fewer fall."""
TRAINED_BY: Mapping[Remedy, Objective] = {"dpop_lambda": "dpop", "dpo_shift_lambda": "dpo_shift"}
"""The objective that a remedy turns dpo into; the others are added to any."""
MOST_EXPONENT = 300.0
"""Of alphapo's reward: beyond, a push is only called enormous, so that sums are finite."""
AT_HEAD = ("head_cosine", "preferred_grad_norm", "dispreferred_grad_norm")

_quietly = np.errstate(over="ignore", divide="ignore", invalid="ignore")
"""Coefficients may be so extreme that pushes overflow: infinities and NaN are results, as floats
give them, and nothing to warn of."""


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """What a score run stores of pairs, as far as a forecast needs it.

    Log-probabilities in nats; tokens with the end token; norms of the gradients of both
    log-probabilities with respect to the unembedding, and the cosine between them. offset: odpo's,
    from the pair's scores in the dataset (`chesboard.offsets`). What `needed` does not name may be
    NaN.
    """

    preferred_logprob: Values
    dispreferred_logprob: Values
    preferred_tokens: Values
    dispreferred_tokens: Values
    head_cosine: Values
    preferred_grad_norm: Values
    dispreferred_grad_norm: Values
    offset: Values = 0.0

    @property
    @_quietly
    def required_ratio(self) -> Values:
        """<s+, s-> / ||s+||^2: the preferred response falls where d+ / d- is less (equation 21)."""
        return self.head_cosine * self.dispreferred_grad_norm / self.preferred_grad_norm


class Push(NamedTuple):
    """How hard an objective pushes at the start of training, where the model is its reference.

    preferred: -dL/dz+. dispreferred: dL/dz-. Both of the loss of one pair; one number where all
    pairs are pushed alike.
    """

    preferred: Values
    dispreferred: Values


@_quietly
def first_push(config: ObjectiveConfig, pairs: ScoredPairs) -> Push:
    """The derivatives of the configured loss at r+ = r- = 0 (equation 22).

    dpop's penalty acts once r+ < 0; its push is that of the steps after a fall, which is what
    decides whether the response goes on falling. With ld_alpha this is exact only where both
    responses have as many tokens (`why_inexact`).
    """
    n, m = pairs.preferred_tokens, pairs.dispreferred_tokens
    beta = config.beta
    weight: Values
    match config.objective:
        case "dpo":
            kept = 1 - 2 * config.label_smoothing
            weight = beta / 2 * (1 / kept if config.robust else kept)
            push = Push(weight, weight)
        case "odpo":
            weight = beta * _sigmoid(config.odpo_alpha * pairs.offset)
            push = Push(weight, weight)
        case "dpo_shift":
            push = Push(beta / 2, beta / 2 * config.dpo_shift_lambda)
        case "bdpo":
            push = Push(beta / 2, beta / 2 * config.bdpo_lambda)
        case "cal_dpo":
            push = Push(0.5 + 0.5 / beta, 0.5 + 0.5 / beta)
        case "apo_zero":
            push = Push(beta / 4, beta / 4)
        case "dpop":
            push = Push(beta / 2 * (1 + config.dpop_lambda), beta / 2)
        case "ipo":
            a, b = (1 / n, 1 / m) if config.length_normalize else (1.0, 1.0)
            push = Push(a / beta, b / beta)
        case "slic":
            active = beta if config.slic_delta > 0 else 0.0
            push = Push(active, active)
        case "simpo":
            margin = beta * (pairs.preferred_logprob / n - pairs.dispreferred_logprob / m)
            weight = beta * _sigmoid(config.simpo_gamma - margin)
            push = Push(weight / n, weight / m)
        case "alphapo":
            push = _alphapo_push(config, pairs)
        case "cross_entropy":
            push = Push(1 / n if config.length_normalize else 1.0, 0.0)
    if not config.sft_coef:
        return push
    return Push(push.preferred + config.sft_coef * _per_token(config, n), push.dispreferred)


def _alphapo_push(config: ObjectiveConfig, pairs: ScoredPairs) -> Push:
    """Of the reward R = beta (1 - exp(-alpha u)) / alpha, u the mean log-probability of a token."""
    alpha, beta = config.alphapo_alpha, config.beta

    def of(mean: Values) -> tuple[Values, Values]:
        """The reward, and the exponent of its derivative with respect to u over beta."""
        exponent = np.minimum(-alpha * mean, MOST_EXPONENT)
        return beta * (-np.expm1(exponent) / alpha if alpha else mean), exponent

    n, m = pairs.preferred_tokens, pairs.dispreferred_tokens
    reward, up = of(pairs.preferred_logprob / n)
    other_reward, down = of(pairs.dispreferred_logprob / m)
    weight = beta * _sigmoid(config.simpo_gamma - (reward - other_reward))
    return Push(weight * np.exp(up) / n, weight * np.exp(down) / m)


def needed(config: ObjectiveConfig) -> tuple[str, ...]:
    """The fields of ScoredPairs that a forecast of the configuration reads, besides the offset."""
    lengths = ("preferred_tokens", "dispreferred_tokens")
    if config.objective in ("simpo", "alphapo"):
        return ("preferred_logprob", "dispreferred_logprob", *lengths, *AT_HEAD)
    return (*lengths, *AT_HEAD) if config.length_normalize else AT_HEAD


def why_inexact(config: ObjectiveConfig) -> str | None:
    """Why there is no forecast of the configuration; None where there is one."""
    if config.ld_alpha is None or config.ld_alpha == 1:
        return None
    return (
        "ld_alpha weighs the tokens of a response differently, and scores are about whole "
        "responses: there is no forecast with it. Leave it out to see that of plain dpo."
    )


@_quietly
def preferred_shift(push: Push, pairs: ScoredPairs) -> Values:
    """First-order change of log p(y+) per unit of learning rate, through the head: negative where
    the response falls."""
    needed = push.dispreferred * pairs.required_ratio
    return pairs.preferred_grad_norm**2 * (push.preferred - needed)


@_quietly
def falls(push: Push, pairs: ScoredPairs) -> Truths:
    """Whether the first step lowers log p(y+), to first order and through the head."""
    return np.less(push.preferred, push.dispreferred * pairs.required_ratio)


@_quietly
def rises(push: Push, pairs: ScoredPairs) -> Truths:
    """Whether the first step raises log p(y-): d+ / d- above ||s-|| / (cosine ||s+||)."""
    raised = push.preferred * pairs.head_cosine * pairs.preferred_grad_norm
    lowered = push.dispreferred * pairs.dispreferred_grad_norm
    return np.greater(pairs.head_cosine, 0) & np.greater(raised, lowered)


def applies(remedy: Remedy, config: ObjectiveConfig) -> bool:
    """Whether the coefficient is a remedy of the objective: those of TRAINED_BY turn dpo into
    another, which has no label smoothing; an objective that pushes no response down has nothing to
    remedy, and dpop has its own."""
    if remedy in TRAINED_BY:
        return config.objective in ("dpo", TRAINED_BY[remedy]) and not config.label_smoothing
    return config.objective not in ("dpop", "cross_entropy")


@_quietly
def smallest_remedy(remedy: Remedy, config: ObjectiveConfig, pairs: ScoredPairs) -> Values:
    """The value nearest to none (WITHOUT) at which log p(y+) does not fall; that of none where it
    does not anyway (equations 23 and 24).

    sft_coef is added to the configured objective; the others turn dpo into theirs. Each stands in
    place of whatever the configuration has of the others.
    """
    if remedy == "dpo_shift_lambda":
        return _largest_shift(pairs)
    without = config.model_copy(update={"sft_coef": 0.0, "dpop_lambda": 0.0})
    push = first_push(without, pairs)
    missing = push.dispreferred * pairs.required_ratio - push.preferred
    per_unit = (
        _per_token(without, pairs.preferred_tokens) if remedy == "sft_coef" else without.beta / 2
    )
    return np.where(missing > 0, np.divide(missing, per_unit), WITHOUT[remedy])


def _largest_shift(pairs: ScoredPairs) -> Values:
    """Of dpo_shift's lambda, whose push on y- is that times the one on y+; below 1 where the
    response falls at 1."""
    ratio = pairs.required_ratio
    largest = np.minimum(np.divide(1, ratio), np.nextafter(1, 0))
    return np.where(np.less_equal(ratio, 1), WITHOUT["dpo_shift_lambda"], largest)


def _per_token(config: ObjectiveConfig, tokens: Values) -> Values:
    """What a unit of sft_coef adds to the push on the preferred response."""
    return 1 / tokens if config.length_normalize else 1.0


def _sigmoid(x: Values) -> Values:
    small: Values = np.exp(-np.abs(x))
    above: Values = np.where(np.greater_equal(x, 0), 1.0, small)
    return above / (1 + small)
