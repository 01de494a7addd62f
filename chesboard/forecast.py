"""Which preferred responses fall at the first step, and the smallest remedy that prevents it.

First order, plain gradient descent, gradients at the output head (`docs/theory.md`, equations 21
to 24). With the pushes d+ = -dL/dz+ and d- = dL/dz- of an objective at the start of training,
log p(y+) moves by d+ ||s+||^2 - d- <s+, s->, so it falls exactly if d+ / d- is below the required
ratio <s+, s-> / ||s+||^2. No torch: the web side computes forecasts from stored measures.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from chesboard.configs import Objective, ObjectiveConfig

Remedy = Literal["sft_coef", "dpop_lambda", "dpo_shift_lambda"]
REMEDIES: tuple[Remedy, ...] = get_args(Remedy)
WITHOUT: Mapping[Remedy, float] = {"sft_coef": 0.0, "dpop_lambda": 0.0, "dpo_shift_lambda": 1.0}
"""The value at which each is none. The further from it, the fewer fall."""
TRAINED_BY: Mapping[Remedy, Objective] = {"dpop_lambda": "dpop", "dpo_shift_lambda": "dpo_shift"}
"""The objective that a remedy turns dpo into; the others are added to any."""
MOST_EXPONENT = 300.0
"""Of alphapo's reward: beyond, a push is only called enormous, so that sums are finite."""


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """What a score run stores of a pair, as far as a forecast needs it.

    Log-probabilities in nats; tokens with the end token; norms of the gradients of both
    log-probabilities with respect to the unembedding, and the cosine between them. offset: odpo's,
    from the pair's scores in the dataset (`chesboard.offsets`).
    """

    preferred_logprob: float
    dispreferred_logprob: float
    preferred_tokens: int
    dispreferred_tokens: int
    head_cosine: float
    preferred_grad_norm: float
    dispreferred_grad_norm: float
    offset: float = 0.0

    @property
    def required_ratio(self) -> float:
        """<s+, s-> / ||s+||^2: the preferred response falls where d+ / d- is less (equation 21)."""
        return self.head_cosine * self.dispreferred_grad_norm / self.preferred_grad_norm


class Push(NamedTuple):
    """How hard an objective pushes at the start of training, where the model is its reference.

    preferred: -dL/dz+. dispreferred: dL/dz-. Both of the loss of one pair.
    """

    preferred: float
    dispreferred: float


def first_push(config: ObjectiveConfig, pair: ScoredPair) -> Push:
    """The derivatives of the configured loss at r+ = r- = 0 (equation 22).

    dpop's penalty acts once r+ < 0; its push is that of the steps after a fall, which is what
    decides whether the response goes on falling. With ld_alpha this is exact only where both
    responses have as many tokens (`why_inexact`).
    """
    n, m = pair.preferred_tokens, pair.dispreferred_tokens
    beta = config.beta
    match config.objective:
        case "dpo":
            kept = 1 - 2 * config.label_smoothing
            weight = beta / 2 * (1 / kept if config.robust else kept)
            push = Push(weight, weight)
        case "odpo":
            weight = beta * _sigmoid(config.odpo_alpha * pair.offset)
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
            margin = beta * (pair.preferred_logprob / n - pair.dispreferred_logprob / m)
            weight = beta * _sigmoid(config.simpo_gamma - margin)
            push = Push(weight / n, weight / m)
        case "alphapo":
            push = _alphapo_push(config, pair)
        case "cross_entropy":
            push = Push(1 / n if config.length_normalize else 1.0, 0.0)
    if not config.sft_coef:
        return push
    return Push(push.preferred + config.sft_coef * _per_token(config, n), push.dispreferred)


def _alphapo_push(config: ObjectiveConfig, pair: ScoredPair) -> Push:
    """Of the reward R = beta (1 - exp(-alpha u)) / alpha, u the mean log-probability of a token."""
    alpha, beta = config.alphapo_alpha, config.beta
    means = (
        pair.preferred_logprob / pair.preferred_tokens,
        pair.dispreferred_logprob / pair.dispreferred_tokens,
    )
    exponents = [min(-alpha * u, MOST_EXPONENT) for u in means]
    rewards = [
        beta * (-math.expm1(exponent) / alpha if alpha else u)
        for exponent, u in zip(exponents, means, strict=True)
    ]
    weight = beta * _sigmoid(config.simpo_gamma - (rewards[0] - rewards[1]))
    up, down = (weight * math.exp(exponent) for exponent in exponents)
    return Push(up / pair.preferred_tokens, down / pair.dispreferred_tokens)


def why_inexact(config: ObjectiveConfig) -> str | None:
    """Why there is no forecast of the configuration; None where there is one."""
    if config.ld_alpha is None or config.ld_alpha == 1:
        return None
    return (
        "ld_alpha weighs the tokens of a response differently, and scores are about whole "
        "responses: there is no forecast with it. Leave it out to see that of plain dpo."
    )


def preferred_shift(push: Push, pair: ScoredPair) -> float:
    """First-order change of log p(y+) per unit of learning rate, through the head: negative where
    the response falls."""
    return pair.preferred_grad_norm**2 * (push.preferred - push.dispreferred * pair.required_ratio)


def falls(push: Push, pair: ScoredPair) -> bool:
    """Whether the first step lowers log p(y+), to first order and through the head."""
    return push.preferred < push.dispreferred * pair.required_ratio


def rises(push: Push, pair: ScoredPair) -> bool:
    """Whether the first step raises log p(y-): d+ / d- above ||s-|| / (cosine ||s+||)."""
    if pair.head_cosine <= 0:
        return False
    return push.preferred * pair.head_cosine * pair.preferred_grad_norm > (
        push.dispreferred * pair.dispreferred_grad_norm
    )


def applies(remedy: Remedy, config: ObjectiveConfig) -> bool:
    """Whether the coefficient is a remedy of the objective: those of TRAINED_BY turn dpo into
    another, which has no label smoothing; an objective that pushes no response down has nothing to
    remedy, and dpop has its own."""
    if remedy in TRAINED_BY:
        return config.objective in ("dpo", TRAINED_BY[remedy]) and not config.label_smoothing
    return config.objective not in ("dpop", "cross_entropy")


def smallest_remedy(remedy: Remedy, config: ObjectiveConfig, pair: ScoredPair) -> float:
    """The value nearest to none (WITHOUT) at which log p(y+) does not fall; that of none where it
    does not anyway (equations 23 and 24).

    sft_coef is added to the configured objective; the others turn dpo into theirs. Each stands in
    place of whatever the configuration has of the others.
    """
    return smallest_remedies([remedy], config, [pair])[remedy][0]


def smallest_remedies(
    remedies: Iterable[Remedy], config: ObjectiveConfig, pairs: Sequence[ScoredPair]
) -> dict[Remedy, list[float]]:
    """`smallest_remedy` of each pair, for each remedy."""
    without = config.model_copy(update={"sft_coef": 0.0, "dpop_lambda": 0.0})
    missing = [_missing_push(without, pair) for pair in pairs]
    found: dict[Remedy, list[float]] = {}
    for remedy in remedies:
        if remedy == "dpo_shift_lambda":
            found[remedy] = [_largest_shift(pair) for pair in pairs]
            continue
        found[remedy] = [
            push / _unit(remedy, without, pair) if push > 0 else 0.0
            for push, pair in zip(missing, pairs, strict=True)
        ]
    return found


def _largest_shift(pair: ScoredPair) -> float:
    """Of dpo_shift's lambda, whose push on y- is that times the one on y+; below 1 where the
    response falls at 1."""
    if pair.required_ratio <= 1:
        return WITHOUT["dpo_shift_lambda"]
    return min(1 / pair.required_ratio, math.nextafter(1, 0))


def _missing_push(config: ObjectiveConfig, pair: ScoredPair) -> float:
    """What the push on y+ lacks of keeping log p(y+) where it is; positive where it falls."""
    push = first_push(config, pair)
    return push.dispreferred * pair.required_ratio - push.preferred


def _unit(remedy: Remedy, config: ObjectiveConfig, pair: ScoredPair) -> float:
    """What a unit of the coefficient adds to the push on y+."""
    return _per_token(config, pair.preferred_tokens) if remedy == "sft_coef" else config.beta / 2


def _per_token(config: ObjectiveConfig, tokens: int) -> float:
    """What a unit of sft_coef adds to the push on the preferred response."""
    return 1 / tokens if config.length_normalize else 1.0


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
