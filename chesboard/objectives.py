"""Losses as pure functions of log-probabilities (`docs/theory.md`, equations 11 to 17, 29 to 37).

All vectors are float32 of length B (pairs); log-probabilities are sums over the response in
nats. Each function returns one loss for each pair, so that any batching gives the same mean.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from chesboard.configs.objective import ObjectiveConfig

_Config = TypeVar("_Config", bound=ObjectiveConfig)


@dataclass(frozen=True, slots=True)
class PairLogprobs:
    """What the losses are computed from, each of shape (B,).

    Log-probabilities of the trained model carry gradients, those of the reference do not. Token
    counts include the end token. `*_tail_B`: the part of a response's log-probability that its
    tokens past the length of the other response have; needed for ld_alpha alone. `offset_B`:
    odpo's offset of each pair (`chesboard.offsets`), for odpo alone.
    """

    preferred_B: Tensor
    dispreferred_B: Tensor
    reference_preferred_B: Tensor
    reference_dispreferred_B: Tensor
    preferred_tokens_B: Tensor
    dispreferred_tokens_B: Tensor
    preferred_tail_B: Tensor | None = None
    dispreferred_tail_B: Tensor | None = None
    reference_preferred_tail_B: Tensor | None = None
    reference_dispreferred_tail_B: Tensor | None = None
    offset_B: Tensor | None = None

    @property
    def preferred_change_B(self) -> Tensor:
        """r+ (equation 7)."""
        return self.preferred_B - self.reference_preferred_B

    @property
    def dispreferred_change_B(self) -> Tensor:
        """r- (equation 7)."""
        return self.dispreferred_B - self.reference_dispreferred_B

    @property
    def margin_B(self) -> Tensor:
        """m = r+ - r- (equation 7)."""
        return self.preferred_change_B - self.dispreferred_change_B

    @property
    def tail_margin_B(self) -> Tensor:
        """The part of the margin that one response's tokens past the other's length make up."""
        tails = (
            self.preferred_tail_B,
            self.reference_preferred_tail_B,
            self.dispreferred_tail_B,
            self.reference_dispreferred_tail_B,
        )
        preferred, reference, dispreferred, other_reference = (_given(tail) for tail in tails)
        return (preferred - reference) - (dispreferred - other_reference)


def losses(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """loss_B: the configured objective plus sft_coef * (-log p(y+)) (equation 17)."""
    loss_B = _OBJECTIVES[config.objective](logprobs, config)
    if config.sft_coef:
        loss_B = loss_B + config.sft_coef * cross_entropy(logprobs, config)
    return loss_B


def pushes(logprobs: PairLogprobs, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """(d+, d-) = (-dL/dlog p(y+), dL/dlog p(y-)) of each pair, by automatic differentiation."""
    with torch.enable_grad():
        preferred_B = logprobs.preferred_B.detach().requires_grad_()
        dispreferred_B = logprobs.dispreferred_B.detach().requires_grad_()
        at = replace(logprobs, preferred_B=preferred_B, dispreferred_B=dispreferred_B)
        gradient_B, other_B = torch.autograd.grad(
            losses(at, config).sum(),
            (preferred_B, dispreferred_B),
            allow_unused=True,
            materialize_grads=True,
        )
    return -gradient_B, other_B


def at_progress(config: _Config, progress: float) -> _Config:
    """The configuration at a point of training (0: the first step, 1: the last), with what
    changes on the way: dpo_shift's lambda, which a linear schedule takes to 1 (equation 31)."""
    if config.objective != "dpo_shift" or config.dpo_shift_schedule == "fixed":
        return config
    start = config.dpo_shift_lambda
    return config.model_copy(update={"dpo_shift_lambda": start + (1 - start) * progress})


def dpo(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """-log sigmoid(beta m) (equation 11; DPO, arXiv 2305.18290), with its options.

    label_smoothing: conservative DPO; robust: arXiv 2403.00409 (equation 29). ld_alpha:
    length-desensitized, arXiv 2409.06411 (equation 30).
    """
    margin_B = logprobs.margin_B
    if config.ld_alpha is not None:
        margin_B = margin_B - (1 - config.ld_alpha) * logprobs.tail_margin_B
    kept_B = -logsigmoid(config.beta * margin_B)
    if not config.label_smoothing:
        return kept_B
    turned_B = -logsigmoid(-config.beta * margin_B)
    wrong = config.label_smoothing
    if config.robust:
        return ((1 - wrong) * kept_B - wrong * turned_B) / (1 - 2 * wrong)
    return (1 - wrong) * kept_B + wrong * turned_B


def ipo(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """(m - 1/(2 beta))^2 (equation 12; IPO, arXiv 2310.12036).

    With length_normalize each change is divided by its response's tokens first, as TRL does.
    """
    margin_B = logprobs.margin_B
    if config.length_normalize:
        margin_B = (
            logprobs.preferred_change_B / logprobs.preferred_tokens_B
            - logprobs.dispreferred_change_B / logprobs.dispreferred_tokens_B
        )
    return (margin_B - 1 / (2 * config.beta)) ** 2


def slic(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """max(0, delta - beta m) (equation 13; SLiC, arXiv 2305.10425)."""
    return relu(config.slic_delta - config.beta * logprobs.margin_B)


def simpo(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """-log sigmoid(beta (log p+ / n+ - log p- / n-) - gamma) (equation 14).

    Always per token, without a reference (SimPO, arXiv 2405.14734).
    """
    preferred_B, dispreferred_B = _per_token(logprobs)
    return -logsigmoid(config.beta * (preferred_B - dispreferred_B) - config.simpo_gamma)


def dpop(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """-log sigmoid(beta (m - lambda max(0, -r+))) (equation 15; DPOP, arXiv 2402.13228)."""
    penalty_B = config.dpop_lambda * relu(-logprobs.preferred_change_B)
    return -logsigmoid(config.beta * (logprobs.margin_B - penalty_B))


def cross_entropy(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """-log p(y+), divided by its tokens with length_normalize (equation 16)."""
    if config.length_normalize:
        return -logprobs.preferred_B / logprobs.preferred_tokens_B
    return -logprobs.preferred_B


def odpo(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """-log sigmoid(beta m - alpha offset) (equation 32; ODPO, arXiv 2402.10571)."""
    offset_B = config.odpo_alpha * _given(logprobs.offset_B)
    return -logsigmoid(config.beta * logprobs.margin_B - offset_B)


def dpo_shift(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """-log sigmoid(beta (r+ - lambda r-)) (equation 31; DPO-Shift, arXiv 2502.07599)."""
    shifted_B = config.dpo_shift_lambda * logprobs.dispreferred_change_B
    return -logsigmoid(config.beta * (logprobs.preferred_change_B - shifted_B))


def bdpo(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """-log sigmoid(beta (r+ - log(lambda exp(r-) + 1 - lambda))) (equation 33; BDPO, arXiv
    2506.12725): y- is pushed down in a mixture with the reference, so only so far."""
    dispreferred_B = logprobs.dispreferred_change_B
    share = config.bdpo_lambda
    if share < 1:
        rest_B = torch.full_like(dispreferred_B, math.log1p(-share))
        dispreferred_B = torch.logaddexp(math.log(share) + dispreferred_B, rest_B)
    return -logsigmoid(config.beta * (logprobs.preferred_change_B - dispreferred_B))


def cal_dpo(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """-log sigmoid(m) + ((r+ - 1/(2 beta))^2 + (r- + 1/(2 beta))^2) / 2 (equation 34; Cal-DPO,
    arXiv 2412.14516)."""
    target = 1 / (2 * config.beta)
    up_B = (logprobs.preferred_change_B - target) ** 2
    down_B = (logprobs.dispreferred_change_B + target) ** 2
    return -logsigmoid(logprobs.margin_B) + (up_B + down_B) / 2


def apo_zero(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """1 - sigmoid(beta r+) + sigmoid(beta r-) (equation 35; APO, arXiv 2408.06266)."""
    up_B = torch.sigmoid(config.beta * logprobs.preferred_change_B)
    return 1 - up_B + torch.sigmoid(config.beta * logprobs.dispreferred_change_B)


def alphapo(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """-log sigmoid(R+ - R- - gamma), R = beta (1 - p^-alpha) / alpha of a response's mean token
    probability p (equation 36; AlphaPO, arXiv 2501.03884). alpha = 0 is simpo."""
    alpha = config.alphapo_alpha
    if alpha == 0:
        return simpo(logprobs, config)
    # 1 - p^-alpha = -expm1(-alpha log p), exact also where alpha or log p is small.
    preferred_B, dispreferred_B = (
        -torch.expm1(-alpha * per_token_B) / alpha for per_token_B in _per_token(logprobs)
    )
    return -logsigmoid(config.beta * (preferred_B - dispreferred_B) - config.simpo_gamma)


def both_cross_entropy(logprobs: PairLogprobs, config: ObjectiveConfig) -> Tensor:
    """-(log p(y+) + log p(y-)) / 2, each divided by its tokens with length_normalize (equation
    37): the first phase of a run with extend_sft_epochs (arXiv 2407.10490)."""
    if config.length_normalize:
        preferred_B, dispreferred_B = _per_token(logprobs)
    else:
        preferred_B, dispreferred_B = logprobs.preferred_B, logprobs.dispreferred_B
    return -(preferred_B + dispreferred_B) / 2


def _per_token(logprobs: PairLogprobs) -> tuple[Tensor, Tensor]:
    return (
        logprobs.preferred_B / logprobs.preferred_tokens_B,
        logprobs.dispreferred_B / logprobs.dispreferred_tokens_B,
    )


def _given(values_B: Tensor | None) -> Tensor:
    assert values_B is not None, "the objective needs offsets or tails"
    return values_B


_OBJECTIVES: dict[str, Callable[[PairLogprobs, ObjectiveConfig], Tensor]] = {
    "dpo": dpo,
    "ipo": ipo,
    "slic": slic,
    "simpo": simpo,
    "dpop": dpop,
    "cross_entropy": cross_entropy,
    "odpo": odpo,
    "dpo_shift": dpo_shift,
    "bdpo": bdpo,
    "cal_dpo": cal_dpo,
    "apo_zero": apo_zero,
    "alphapo": alphapo,
}
