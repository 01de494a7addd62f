"""Statistics of a training step over its batch."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from chesboard.calibration import Observed
from chesboard.objectives import PairLogprobs
from chesboard.probing.summary import mean
from chesboard.records import MetricRecord, displaced
from worker.training.checkpoints import Progress

NO_REFERENCE: dict[str, Any] = dict.fromkeys(
    ("margin", "preferred_change", "dispreferred_change", "displaced_fraction", "accuracy")
)
"""What a step of the first phase does not have: its reference is only made by that phase."""


@dataclass(slots=True)
class StepStats:
    """What a step measures of its pairs before its update: one value a pair, in nats."""

    losses: list[float] = field(default_factory=list)
    preferred: list[float] = field(default_factory=list)
    dispreferred: list[float] = field(default_factory=list)
    preferred_changes: list[float] = field(default_factory=list)
    dispreferred_changes: list[float] = field(default_factory=list)
    observed: Observed = field(default_factory=Observed)
    """Empty without reward calibration."""

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

    @classmethod
    def joined(cls, parts: Iterable["StepStats"]) -> "StepStats":
        """Of the pairs of all parts."""
        joined = cls()
        for part in parts:
            joined.losses += part.losses
            joined.preferred += part.preferred
            joined.dispreferred += part.dispreferred
            joined.preferred_changes += part.preferred_changes
            joined.dispreferred_changes += part.dispreferred_changes
            joined.observed.extend(part.observed)
        return joined

    @property
    def margins(self) -> list[float]:
        both = zip(self.preferred_changes, self.dispreferred_changes, strict=True)
        return [preferred - dispreferred for preferred, dispreferred in both]

    @property
    def displaced(self) -> list[bool]:
        both = zip(self.preferred_changes, self.dispreferred_changes, strict=True)
        return [displaced(preferred, dispreferred) for preferred, dispreferred in both]


def step_metric(
    seen: StepStats,
    at: Progress,
    norm: float,
    rate: float,
    tokens_per_second: float,
    is_first_phase: bool,
) -> MetricRecord:
    """What is recorded of a step. at: after it."""
    metric = MetricRecord(
        step=at.step,
        loss=at.loss,
        margin=at.margin,
        preferred_logprob=mean(seen.preferred),
        dispreferred_logprob=mean(seen.dispreferred),
        preferred_change=mean(seen.preferred_changes),
        dispreferred_change=mean(seen.dispreferred_changes),
        displaced_fraction=mean(seen.displaced),
        accuracy=mean([margin > 0 for margin in seen.margins]),
        grad_norm=norm,
        learning_rate=rate,
        tokens_per_second=tokens_per_second,
        tokens_seen=at.tokens_seen,
    )
    return replace(metric, **NO_REFERENCE) if is_first_phase else metric
