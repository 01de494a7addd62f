"""The numbers that a worker hands to the store: plain values, no tensors, no SQL.

Log-probabilities are in nats and are sums over the response tokens (end token included) unless
a name says otherwise. A float that is NaN or infinite is stored as it is and shown as a gap.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

STILL_NATS = 1e-4
"""Changes of log-probability below this are called no change: rounding makes some."""

Response = Literal["preferred", "dispreferred"]


def displaced(preferred_change: float, dispreferred_change: float) -> bool:
    """y+ lost likelihood while the margin grew. NaN is not."""
    margin = preferred_change - dispreferred_change
    return preferred_change < -STILL_NATS and margin > STILL_NATS


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """One optimizer step over its batch; means over the batch's pairs."""

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
    """One token's probability at a position: at the beginning, now, and the difference."""

    token_id: int
    token: str
    initial: float
    final: float
    change: float
    predicted: float | None
    """Predicted change for a small step, up to a positive factor (docs/theory.md, equation 10)."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RecentLedger:
    """What moved since the previous record, at step `since_step`."""

    since_step: int
    gainers: list[LedgerEntry]
    losers: list[LedgerEntry]
    rest_change: float
    moved_mass: float


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """One position at one step. Columns as in app/store/probes.py."""

    watched_probs: list[float]
    gainers: list[LedgerEntry]
    losers: list[LedgerEntry]
    rest_change: float
    moved_mass: float
    recent: RecentLedger | None = None
    predicted_changes: list[float] = field(default_factory=list)
    predicted_ranks: list[int] = field(default_factory=list)
    rank_agreement: float | None = None


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """What does not change about a probe. Columns as in app/store/probes.py."""

    pair: int
    prompt: str
    preferred_tokens: list[str]
    dispreferred_tokens: list[str]
    fork_position: int
    groups: list[dict[str, Any]]
    watched: list[dict[str, Any]]
    predicted: list[dict[str, Any]] = field(default_factory=list)
    positions: dict[str, list[int]] = field(
        default_factory=lambda: {"preferred": [], "dispreferred": []}
    )
    kind: Literal["pair", "prompt"] = "pair"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeStepRecord:
    """One probe at one step, with the ledger of its fork. Columns as in app/store/probes.py."""

    pair: int
    step: int
    preferred_logprobs: list[float]
    dispreferred_logprobs: list[float]
    preferred_change: float | None
    dispreferred_change: float | None
    onset_step: int | None
    preferred_prob: float | None
    dispreferred_prob: float | None
    other_prob: float | None
    group_probs: list[float]
    ledger: LedgerRecord


@dataclass(frozen=True, slots=True)
class PositionRecord:
    """What does not change about a position besides the fork that has a ledger."""

    pair: int
    response: Response
    position: int
    watched: list[dict[str, Any]]
    predicted: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class PositionStepRecord:
    pair: int
    response: Response
    position: int
    step: int
    ledger: LedgerRecord


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """The model's own greedy answer to a probe's prompt."""

    pair: int
    step: int
    text: str
    ended: bool
    """Whether the model ended it, rather than the limit of tokens."""


@dataclass(frozen=True, slots=True)
class FinalRecord:
    """A trained pair after the last step: log-probabilities then, and under the reference."""

    pair: int
    preferred: float
    dispreferred: float
    final_preferred: float
    final_dispreferred: float


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
