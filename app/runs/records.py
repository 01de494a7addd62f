"""The numbers that a worker hands to the store: plain values, no tensors, no SQL.

Log-probabilities are in nats and are sums over the response tokens (end token included) unless
a name says otherwise. A float that is NaN or infinite is stored as it is and shown as a gap.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """One optimiser step over its batch; means over the batch's pairs."""

    step: int
    loss: float
    margin: float | None
    preferred_logprob: float
    dispreferred_logprob: float | None
    preferred_change: float | None
    dispreferred_change: float | None
    displaced_fraction: float | None
    accuracy: float | None
    grad_norm: float
    learning_rate: float
    tokens_per_second: float
    tokens_seen: int


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One token's probability at the fork: at step 0, now, and the difference."""

    token_id: int
    token: str
    initial: float
    final: float
    change: float
    predicted: float | None
    """Predicted change for a small step, up to a common positive factor (design §1)."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "token_id": self.token_id,
            "token": self.token,
            "initial": self.initial,
            "final": self.final,
            "change": self.change,
            "predicted": self.predicted,
        }


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """What does not change about a watched pair. Columns as in app/probes/tables.py."""

    pair: int
    prompt: str
    preferred_tokens: list[str]
    dispreferred_tokens: list[str]
    fork_position: int
    groups: dict[str, list[str]]
    watched: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ProbeStepRecord:
    """One probe at one step. Columns as in app/probes/tables.py."""

    pair: int
    step: int
    preferred_logprobs: list[float]
    dispreferred_logprobs: list[float]
    preferred_prob: float
    dispreferred_prob: float
    other_prob: float
    group_probs: list[float]
    watched_probs: list[float]
    gainers: list[LedgerEntry]
    losers: list[LedgerEntry]
    rest_change: float
    moved_mass: float


@dataclass(frozen=True, slots=True)
class ScoreRecord:
    """One pair's scores. An `evaluate` run leaves the four measures None."""

    pair: int
    ches: float | None
    ln_ches: float | None
    last_hidden_inner_product: float | None
    normalized_edit_distance: float | None
    preferred_logprob: float
    dispreferred_logprob: float
    preferred_tokens: int
    dispreferred_tokens: int
    prompt_tokens: int
    cut_tokens: int
    preferred_ends: list[int] = field(default_factory=list)
    dispreferred_ends: list[int] = field(default_factory=list)
