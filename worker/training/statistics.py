"""Statistics of a training step over its batch, and of a run over its probes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from chesboard.objectives import PairLogprobs
from chesboard.records import displaced


@dataclass(slots=True)
class StepStats:
    """What a step measures of its pairs before its update: one value a pair, in nats."""

    losses: list[float] = field(default_factory=list)
    preferred: list[float] = field(default_factory=list)
    dispreferred: list[float] = field(default_factory=list)
    preferred_changes: list[float] = field(default_factory=list)
    dispreferred_changes: list[float] = field(default_factory=list)

    def add(self, loss_B: Tensor, logprobs: PairLogprobs) -> None:
        """Append a micro-batch of B pairs."""
        for values, tensor in (
            (self.losses, loss_B),
            (self.preferred, logprobs.preferred_B),
            (self.dispreferred, logprobs.dispreferred_B),
            (self.preferred_changes, logprobs.preferred_change_B),
            (self.dispreferred_changes, logprobs.dispreferred_change_B),
        ):
            values.extend(tensor.detach().tolist())

    @property
    def margins(self) -> list[float]:
        both = zip(self.preferred_changes, self.dispreferred_changes, strict=True)
        return [preferred - dispreferred for preferred, dispreferred in both]

    @property
    def displaced(self) -> list[bool]:
        both = zip(self.preferred_changes, self.dispreferred_changes, strict=True)
        return [displaced(preferred, dispreferred) for preferred, dispreferred in both]


def mean(values: Sequence[float]) -> float:
    """The mean, independent of the order of the values. NaN and infinity propagate."""
    total = sum(values)
    return math.fsum(values) / len(values) if math.isfinite(total) else total / len(values)


def summarize_probes(probes: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the probes; None without probes."""
    names = ("preferred_change", "dispreferred_change", "moved_mass")
    if not probes:
        return dict.fromkeys([*names, "displaced_fraction"])
    return {
        **{name: mean([probe[name] for probe in probes]) for name in names},
        "displaced_fraction": mean(
            [displaced(probe["preferred_change"], probe["dispreferred_change"]) for probe in probes]
        ),
    }
