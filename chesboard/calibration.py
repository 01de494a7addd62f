"""Reward calibration: rescales what a step pushes up and down, and leaves every loss as it is.

arXiv 2604.18239 (`docs/theory.md`, equation 38). With the pushes d+ = -dL/dlog p(y+) and
d- = dL/dlog p(y-) and the norms of the gradients s+ and s- of both log-probabilities, neither is
dragged along by the other, whatever their angle, where d+ / d- is ||s-|| / ||s+||.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace

from torch import Tensor

from chesboard.objectives import PairLogprobs

DECAY = 0.98
"""Of the moving averages, from one step to the next; that of the paper's code."""
LEAST = 1e-12
"""Pushes and norms below this count as this: their logarithm is averaged."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Moving averages of the logarithms of a step's mean pushes and of its pairs' norms."""

    preferred_push: float
    dispreferred_push: float
    preferred_norm: float
    dispreferred_norm: float

    @property
    def factor(self) -> float:
        """a: the push up is multiplied by it, the push down divided."""
        wanted = self.dispreferred_norm - self.preferred_norm
        return math.exp((wanted - (self.preferred_push - self.dispreferred_push)) / 2)

    def then(self, observed: "Calibration") -> "Calibration":
        """The averages after another step."""
        both = zip(astuple(self), astuple(observed), strict=True)
        return Calibration(*(DECAY * before + (1 - DECAY) * now for before, now in both))


@dataclass(slots=True)
class Observed:
    """What a step measures of its pairs: pushes, and norms of the gradients at the output head."""

    preferred_pushes: list[float] = field(default_factory=list)
    dispreferred_pushes: list[float] = field(default_factory=list)
    preferred_norms: list[float] = field(default_factory=list)
    dispreferred_norms: list[float] = field(default_factory=list)

    def add(self, pushes: tuple[Tensor, Tensor], norms: tuple[Tensor, Tensor]) -> None:
        """Append a micro-batch; vectors of shape (B,)."""
        lists = (
            self.preferred_pushes,
            self.dispreferred_pushes,
            self.preferred_norms,
            self.dispreferred_norms,
        )
        for values, tensor in zip(lists, (*pushes, *norms), strict=True):
            values.extend(tensor.tolist())

    def extend(self, other: "Observed") -> None:
        """Append what was measured of other pairs."""
        self.preferred_pushes += other.preferred_pushes
        self.dispreferred_pushes += other.dispreferred_pushes
        self.preferred_norms += other.preferred_norms
        self.dispreferred_norms += other.dispreferred_norms

    def calibration(self) -> Calibration:
        """Of pushes the logarithm of the mean (some pairs may be done and have none), of norms the
        mean of the logarithms, so that no long response outweighs the others."""
        return Calibration(
            _log(math.fsum(self.preferred_pushes) / len(self.preferred_pushes)),
            _log(math.fsum(self.dispreferred_pushes) / len(self.dispreferred_pushes)),
            _mean_log(self.preferred_norms),
            _mean_log(self.dispreferred_norms),
        )


def calibrated(logprobs: PairLogprobs, factor: float) -> PairLogprobs:
    """The same values, with gradients multiplied by the factor (y+) and divided by it (y-)."""
    tails = logprobs.preferred_tail_B, logprobs.dispreferred_tail_B
    return replace(
        logprobs,
        preferred_B=_scaled(logprobs.preferred_B, factor),
        dispreferred_B=_scaled(logprobs.dispreferred_B, 1 / factor),
        preferred_tail_B=None if tails[0] is None else _scaled(tails[0], factor),
        dispreferred_tail_B=None if tails[1] is None else _scaled(tails[1], 1 / factor),
    )


def _scaled(values_B: Tensor, factor: float) -> Tensor:
    """a z + (1 - a) sg(z), written so that the value is z to the last bit."""
    fixed_B = values_B.detach()
    return fixed_B + factor * (values_B - fixed_B)


def _log(value: float) -> float:
    return math.log(max(value, LEAST))


def _mean_log(values: Sequence[float]) -> float:
    return math.fsum(map(_log, values)) / len(values)
