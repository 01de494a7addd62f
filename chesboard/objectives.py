"""Losses as pure functions of log-probabilities (`docs/theory.md`, equations 11 to 17).

All vectors are float32 of length B (pairs); log-probabilities are sums over the response in
nats. Each function returns one loss for each pair, so that any batching gives the same mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from chesboard.configs import TrainConfig


@dataclass(frozen=True, slots=True)
class PairLogprobs:
    """What the losses are computed from, each of shape (B,).

    Log-probabilities of the trained model carry gradients, those of the reference do not. Token
    counts include the end token.
    """

    preferred_B: Tensor
    dispreferred_B: Tensor
    reference_preferred_B: Tensor
    reference_dispreferred_B: Tensor
    preferred_tokens_B: Tensor
    dispreferred_tokens_B: Tensor

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


def losses(logprobs: PairLogprobs, config: TrainConfig) -> Tensor:
    """loss_B: the configured objective plus sft_coef * (-log p(y+)) (equation 17)."""
    loss_B = _OBJECTIVES[config.objective](logprobs, config)
    if config.sft_coef:
        loss_B = loss_B + config.sft_coef * cross_entropy(logprobs, config)
    return loss_B


def dpo(logprobs: PairLogprobs, config: TrainConfig) -> Tensor:
    """-log sigmoid(beta m) (equation 11; DPO, arXiv 2305.18290)."""
    return -logsigmoid(config.beta * logprobs.margin_B)


def ipo(logprobs: PairLogprobs, config: TrainConfig) -> Tensor:
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


def slic(logprobs: PairLogprobs, config: TrainConfig) -> Tensor:
    """max(0, delta - beta m) (equation 13; SLiC, arXiv 2305.10425)."""
    return relu(config.slic_delta - config.beta * logprobs.margin_B)


def simpo(logprobs: PairLogprobs, config: TrainConfig) -> Tensor:
    """-log sigmoid(beta (log p+ / n+ - log p- / n-) - gamma) (equation 14).

    Always per token, without a reference (SimPO, arXiv 2405.14734).
    """
    difference_B = (
        logprobs.preferred_B / logprobs.preferred_tokens_B
        - logprobs.dispreferred_B / logprobs.dispreferred_tokens_B
    )
    return -logsigmoid(config.beta * difference_B - config.simpo_gamma)


def dpop(logprobs: PairLogprobs, config: TrainConfig) -> Tensor:
    """-log sigmoid(beta (m - lambda max(0, -r+))) (equation 15; DPOP, arXiv 2402.13228)."""
    penalty_B = config.dpop_lambda * relu(-logprobs.preferred_change_B)
    return -logsigmoid(config.beta * (logprobs.margin_B - penalty_B))


def cross_entropy(logprobs: PairLogprobs, config: TrainConfig) -> Tensor:
    """-log p(y+), divided by its tokens with length_normalize (equation 16)."""
    if config.length_normalize:
        return -logprobs.preferred_B / logprobs.preferred_tokens_B
    return -logprobs.preferred_B


_OBJECTIVES: dict[str, Callable[[PairLogprobs, TrainConfig], Tensor]] = {
    "dpo": dpo,
    "ipo": ipo,
    "slic": slic,
    "simpo": simpo,
    "dpop": dpop,
    "cross_entropy": cross_entropy,
}
