"""The first step of an optimizer on one pair, in closed form (`docs/theory.md`, equation 27).

The steps are those of torch's optimizers as `worker.training.optim` makes them, from fresh state.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from chesboard.configs import OptimizerConfig, PreflightConfig
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel
from chesboard.objectives import PairLogprobs, losses
from chesboard.pairs import TokenizedPair
from chesboard.preflight.gradients import Direction, following, gradients_of

EPS = 1e-8
"""The default of torch's AdamW and RMSprop."""
RMSPROP_ALPHA = 0.99
"""torch's default: the mean of squares starts at zero, so it is 0.01 g^2 at the first step."""


def first_step(
    loaded: LoadedModel,
    forward: PairForward,
    pair: TokenizedPair,
    config: PreflightConfig,
    offset: float = 0.0,
) -> tuple[tuple[float, float], Direction]:
    """((log p(y+), log p(y-)), the optimizer's first step on the pair's loss alone).

    offset: odpo's.
    """
    with following(loaded) as weights:
        states = forward([pair])
        both = states.preferred_logprobs_B(), states.dispreferred_logprobs_B()
        at = at_reference(both, pair, states.tail_logprobs_B(), offset)
        gradients = gradients_of(losses(at, config).sum(), weights)
    return (both[0].item(), both[1].item()), first_steps(config, weights, gradients)


def at_reference(
    both: tuple[Tensor, Tensor],
    pair: TokenizedPair,
    tails: tuple[Tensor, Tensor] | None = None,
    offset: float = 0.0,
) -> PairLogprobs:
    """The model is its own reference before the first step."""
    preferred_B, dispreferred_B = both
    known = PairLogprobs(
        preferred_B,
        dispreferred_B,
        preferred_B.detach(),
        dispreferred_B.detach(),
        torch.tensor([len(pair.preferred_ids)], device=preferred_B.device),
        torch.tensor([len(pair.dispreferred_ids)], device=preferred_B.device),
        offset_B=torch.full_like(preferred_B, offset).detach(),
    )
    if tails is None:
        return known
    return replace(
        known,
        preferred_tail_B=tails[0],
        dispreferred_tail_B=tails[1],
        reference_preferred_tail_B=tails[0].detach(),
        reference_dispreferred_tail_B=tails[1].detach(),
    )


@torch.no_grad()
def first_steps(
    config: OptimizerConfig, weights: Mapping[str, Tensor], gradients: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Name → the change of that weight at the first step, without warm-up or clipping.

    Written over the gradients, so that no more than one step is in memory.
    """
    return {
        name: _first_step(config, weights[name], gradient) for name, gradient in gradients.items()
    }


def _first_step(config: OptimizerConfig, weight: Tensor, step: Tensor) -> Tensor:
    assert config.learning_rate is not None, "the configuration fills it in"
    decay = config.weight_decay if weight.ndim >= 2 else 0.0
    if decay and config.optimizer != "adamw":
        step.add_(weight, alpha=decay)  # the penalty's gradient; adamw decays the weight itself
    match config.optimizer:
        case "rmsprop":
            # (1 - alpha) g^2 is the mean of squares: about g / |g|, ten times.
            step.div_(step.abs().mul_((1 - RMSPROP_ALPHA) ** 0.5).add_(EPS))
        case "adamw":
            step.div_(step.abs().add_(EPS))  # both moments with their bias corrected
            if decay:
                step.add_(weight, alpha=decay)
        case "sgd":
            pass
    return step.mul_(-config.learning_rate)
