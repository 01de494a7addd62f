"""What a training step's losses read of its pairs besides the forward pass."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from chesboard.configs import ObjectiveConfig
from chesboard.forward.states import PairStates
from chesboard.objectives import PairLogprobs
from chesboard.pairs import TokenizedPair
from worker.training.reference import Reference, ReferenceLogprobs

UNKNOWN = ReferenceLogprobs(math.nan, math.nan, math.nan, math.nan)


def needs_tails(config: ObjectiveConfig) -> bool:
    """Whether the objective reads the tokens past the length of the other response."""
    return config.ld_alpha is not None


@dataclass(frozen=True, slots=True)
class PairInputs:
    """What the dataset and its scores say of each trained pair, by ordinal; empty where the
    configuration does not ask for it. offsets: odpo's. weights: of the pair's loss."""

    offsets: Mapping[int, float] = field(default_factory=dict)
    weights: Mapping[int, float] = field(default_factory=dict)


NO_INPUTS = PairInputs()


class PairTerms:
    """Reference log-probabilities and inputs of the trained pairs, as vectors of a batch."""

    def __init__(
        self,
        config: ObjectiveConfig,
        reference: Reference | None,
        inputs: PairInputs,
        device: torch.device,
    ) -> None:
        """reference: None before there is one: its log-probabilities are NaN."""
        self._tails = needs_tails(config)
        self._reference, self._device = reference, device
        self._offsets, self._weights = inputs.offsets, inputs.weights

    def logprobs(self, pairs: Sequence[TokenizedPair], states: PairStates) -> PairLogprobs:
        """What the losses of these pairs are computed from, with the states' gradients."""
        known = [UNKNOWN if self._reference is None else self._reference[p.pair] for p in pairs]
        tails: dict[str, Tensor] = {}
        if self._tails:
            preferred_B, dispreferred_B = states.tail_logprobs_B()
            tails = {
                "preferred_tail_B": preferred_B,
                "dispreferred_tail_B": dispreferred_B,
                "reference_preferred_tail_B": self._vector([one.preferred_tail for one in known]),
                "reference_dispreferred_tail_B": self._vector(
                    [one.dispreferred_tail for one in known]
                ),
            }
        if self._offsets:
            tails["offset_B"] = self._vector([self._offsets[pair.pair] for pair in pairs])
        return PairLogprobs(
            preferred_B=states.preferred_logprobs_B(),
            dispreferred_B=states.dispreferred_logprobs_B(),
            reference_preferred_B=self._vector([one.preferred for one in known]),
            reference_dispreferred_B=self._vector([one.dispreferred for one in known]),
            preferred_tokens_B=self._vector([len(pair.preferred_ids) for pair in pairs]),
            dispreferred_tokens_B=self._vector([len(pair.dispreferred_ids) for pair in pairs]),
            **tails,
        )

    def weights_B(self, pairs: Sequence[TokenizedPair]) -> Tensor | None:
        """The weight of each pair's loss; None where all have the same."""
        if not self._weights:
            return None
        return self._vector([self._weights[pair.pair] for pair in pairs])

    def _vector(self, values: Sequence[float | None]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device)
