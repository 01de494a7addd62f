"""The records of a run: what scoring and training measure, as plain values without tensors or SQL.

Log-probabilities are in nats and are sums over the response tokens (end token included) unless
a name says otherwise. A float that is NaN or infinite is stored as it is and shown as a gap.

A new kind of record is a dataclass here, a member of `Record`, a table in app/store and one line
in the registry of app/store/recording.py.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

STILL_NATS = 1e-4
"""Changes of log-probability up to this count as none: floating-point rounding reaches it."""

Response = Literal["preferred", "dispreferred"]


def displaced(preferred_change: float | None, dispreferred_change: float | None) -> bool:
    """Whether a pair is displaced: y+ lost likelihood while the margin grew.

    docs/theory.md, equation 8. Arguments: changes of log-probability against the reference, in
    nats. Both the loss and the growth of the margin must exceed STILL_NATS. None and NaN are not
    displaced; infinities compare as floats do. app/store/displaced.py and static/lib/displaced.js
    state the same rule, and tests/test_displaced.py holds the three together.
    """
    if preferred_change is None or dispreferred_change is None:
        return False
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


METRICS: tuple[str, ...] = tuple(
    entry.name for entry in fields(MetricRecord) if entry.name != "step"
)
"""Names of the numbers of an optimizer step, in the order of MetricRecord."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One token's probability at a position: at the first step, now, and the difference."""

    token_id: int
    token: str
    initial: float
    final: float
    change: float
    predicted: float | None
    """Predicted change for a small step, up to a positive factor (docs/theory.md, equation 10)."""


@dataclass(frozen=True, slots=True)
class RecentLedger:
    """The mass ledger since the previously recorded step, `since_step`."""

    since_step: int
    gainers: list[LedgerEntry]
    losers: list[LedgerEntry]
    rest_change: float
    moved_mass: float


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """The mass ledger of one position at one step; fields as in app/store/probes.py.

    gainers, losers, rest_change and moved_mass compare with step 0, `recent` with the previously
    recorded step. predicted_changes and predicted_ranks belong to the predicted tokens of the
    probe or position, in their order.
    """

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
    """The constant part of a probe: a watched pair or prompt; fields as in app/store/probes.py."""

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
    """One probe at one step, with the ledger of its fork; fields as in app/store/probes.py.

    preferred_logprobs, dispreferred_logprobs: one a response token; empty for a prompt.
    onset_step: the recorded step since which the pair has been displaced, or None.
    """

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
    """The constant part of a response position, other than the fork, that has a ledger."""

    pair: int
    response: Response
    position: int
    watched: list[dict[str, Any]]
    predicted: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class PositionStepRecord:
    """The ledger of such a position at one step."""

    pair: int
    response: Response
    position: int
    step: int
    ledger: LedgerRecord


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """The model's greedy completion of a probe's prompt at one step."""

    pair: int
    step: int
    text: str
    ended: bool
    """Whether generation ended with an end token rather than at the token limit."""


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """Log-probabilities of a trained pair's responses under the reference model."""

    pair: int
    preferred: float
    dispreferred: float


@dataclass(frozen=True, slots=True)
class FinalRecord:
    """Log-probabilities of a trained pair under the reference and under the trained model."""

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


Record = (
    MetricRecord
    | ProbeRecord
    | ProbeStepRecord
    | PositionRecord
    | PositionStepRecord
    | AnswerRecord
    | ReferenceRecord
    | FinalRecord
    | ScoreRecord
)
