"""What a trainer logs of a step, as a record: names of TRL and of ours."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chesboard.record_json import MAX_EXTRA, MAX_KEY
from chesboard.records import METRICS, MetricRecord

SUMS = {
    "logps/chosen": "preferred_logprob",
    "logps/rejected": "dispreferred_logprob",
}
"""TRL's names of log-probabilities of whole responses."""

SAME = {
    "rewards/accuracies": "accuracy",
    "num_tokens": "tokens_seen",
    "num_input_tokens_seen": "tokens_seen",
}
"""TRL's names of what is a field of a record."""

BY_BETA = {
    "rewards/chosen": "preferred_change",
    "rewards/rejected": "dispreferred_change",
    "rewards/margins": "margin",
}
"""TRL's rewards are changes against the reference times beta."""


@dataclass(slots=True)
class Metrics:
    """Makes records of what is logged. beta: None where the trainer has no reference, or none that
    its rewards are changes against. averages: its log-probabilities may be means over tokens."""

    beta: float | None = None
    averages: bool = False
    last: MetricRecord | None = None
    _at: tuple[float, int] | None = field(default=None, repr=False)
    """When how many tokens had been seen."""

    def record(self, step: int, logged: Mapping[str, Any]) -> MetricRecord | None:
        """The record of a step, with what was logged of it before; None where nothing is a number.

        A log-probability is a sum over the response, in nats.
        """
        found = ((str(name)[:MAX_KEY], _of(value)) for name, value in logged.items())
        numbers = {name: number for name, number in found if number is not None}
        numbers.pop("step", None)
        if not numbers:
            return None
        known: dict[str, Any] = {}
        extra: dict[str, float] = {}
        for name, number in numbers.items():
            if name in METRICS:
                known[name] = number
            elif name in SAME:
                known[SAME[name]] = number
            elif name in SUMS and not self.averages:
                known[SUMS[name]] = number
            elif name in BY_BETA and self.beta:
                known[BY_BETA[name]] = number / self.beta
                extra[name] = number
            else:
                extra[name] = number
        if "tokens_seen" in known:
            known["tokens_seen"] = seen = int(known["tokens_seen"])
            known.setdefault("tokens_per_second", self._speed(seen))
        before = self.last if self.last is not None and self.last.step == step else None
        before = before or MetricRecord(step, *[None] * len(METRICS))
        extra = dict(list({**(before.extra or {}), **extra}.items())[:MAX_EXTRA])
        record = replace(before, **known, extra=extra or None)
        self.last = record
        return record

    def _speed(self, tokens: int) -> float | None:
        now, before = time.monotonic(), self._at
        self._at = (now, tokens)
        if before is None or now <= before[0] or tokens <= before[1]:
            return None
        return (tokens - before[1]) / (now - before[0])


def _of(value: Any) -> float | None:
    """A number of Python, numpy or torch; of text only what stands for one (`nan`)."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError):
        return None
