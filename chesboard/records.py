"""The records of a run: what scoring and training measure, as plain values without tensors or SQL.

Log-probabilities are in nats and are sums over the response tokens (end token included) unless
a name says otherwise. A float that is NaN or infinite is stored as it is and shown as a gap.

A new kind of record is a dataclass here, a member of `Record`, a table in app/store and one line
in the registry of app/store/recording.py; one that a training run records is a line in
chesboard/record_json.py too.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from typing_extensions import TypedDict

from chesboard.findings import FindingKind

STILL_NATS = 1e-4
"""Changes of log-probability up to this count as none: floating-point rounding reaches it."""

Response = Literal["preferred", "dispreferred"]

PredictionKind = Literal["geometry", "squeezing"]
"""What a prediction follows from: the unembedding (docs/theory.md, equation 10), or the softmax
of a response that is pushed down (equation 25)."""


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
    """One optimizer step over its batch; means over the batch's pairs.

    None: not known, as some trainers log less than ours. extra: what else a trainer logged, by
    its own names.
    """

    step: int
    loss: float | None
    margin: float | None
    preferred_logprob: float | None
    dispreferred_logprob: float | None
    preferred_change: float | None
    dispreferred_change: float | None
    displaced_fraction: float | None
    accuracy: float | None
    grad_norm: float | None
    learning_rate: float | None
    tokens_per_second: float | None
    tokens_seen: int | None
    extra: dict[str, float] | None = None


METRICS: tuple[str, ...] = tuple(
    entry.name for entry in fields(MetricRecord) if entry.name not in ("step", "extra")
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
    """Predicted change for a small step, up to a positive factor (equations 10 and 25)."""


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
    argmax_token: str | None = None
    argmax_logprob: float | None = None
    """The most likely token at this step, and its log-probability in nats."""
    kl: float | None = None
    """KL(now || step 0) over the vocabulary at this position, in nats."""


class TokenGroup(TypedDict):
    """A named set of tokens, by their texts."""

    name: str
    tokens: list[str]


class PredictedToken(TypedDict):
    """A token that is predicted to gain, and its predicted change as in LedgerEntry."""

    token_id: int
    token: str
    predicted: float | None


class WatchedToken(PredictedToken):
    """A token whose probability is recorded at every step; initial: at the first."""

    initial: float


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """The constant part of a probe: a watched pair or prompt; fields as in app/store/probes.py."""

    pair: int
    prompt: str
    preferred_tokens: list[str]
    dispreferred_tokens: list[str]
    fork_position: int
    groups: list[TokenGroup]
    watched: list[WatchedToken]
    predicted: list[PredictedToken] = field(default_factory=list)
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
    watched: list[WatchedToken]
    predicted: list[PredictedToken]
    prediction_kind: PredictionKind | None = None


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
    """Log-probabilities of a trained pair's responses under the reference model.

    *_tail: the part of a response's tokens past the length of the other, where the objective
    needs it (ld_alpha).
    """

    pair: int
    preferred: float
    dispreferred: float
    preferred_tail: float | None = None
    dispreferred_tail: float | None = None


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
    """One pair's scores. An `evaluate` run leaves what needs hidden states None.

    What is measured at the head is None where the logits are no linear map of the hidden states.
    """

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
    head_shift: float | None = None
    head_cosine: float | None = None
    implicit_gap: float | None = None
    length_gap: float | None = None
    preferred_grad_norm: float | None = None
    dispreferred_grad_norm: float | None = None


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """What tokenizing a pair under the run's model showed; kinds: `chesboard.findings`."""

    pair: int
    kind: FindingKind
    detail: str | None = None
    """What exactly: the template's error, the tokens found, the role of the turn."""


@dataclass(frozen=True, slots=True)
class PreflightRecord:
    """What the first step on one pair alone would do, to first order; changes in nats.

    gainers, losers: at the fork, each {token_id, token, initial, change} in probability, largest
    change first. influence_*: of every pair in `pairs`, the change of its log-probability by this
    pair's step. interference: row by row, the shown tokens of y+ by those of y-; pulls: its column
    sums over all tokens of y+; own, pull: what raising y+ gives it, and what lowering y- takes,
    through the output head. None where the logits are no linear map of the hidden states.
    """

    pair: int
    preferred_logprob: float
    dispreferred_logprob: float
    preferred_change: float
    dispreferred_change: float
    gainers: list[dict[str, Any]]
    losers: list[dict[str, Any]]
    rest_change: float
    pairs: list[int]
    influence_preferred: list[float]
    influence_dispreferred: list[float]
    fork_position: int
    preferred_tokens: list[str]
    dispreferred_tokens: list[str]
    preferred_count: int
    dispreferred_count: int
    interference: list[float] | None
    pulls: list[float] | None
    own: float | None
    pull: float | None


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """One answer of the model to the prompt of a pair."""

    pair: int
    """The first pair with this prompt."""
    sample: int
    text: str
    tokens: int
    """Of the answer, its end token included."""
    ended: bool
    """Whether generation ended with an end token rather than at the token limit."""
    logprob: float
    """Sum over the tokens, end token included, in nats, at temperature 1 over all tokens."""


@dataclass(frozen=True, slots=True)
class JudgmentRecord:
    """A judge's verdict on one sampled answer.

    verdict: whether the answer has what the judge looks for, such as refusal; None: no verdict was
    had, and `reason` says why. score: the judge's own number, if it gives one.
    """

    pair: int
    sample: int
    verdict: bool | None
    score: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FilterRecord:
    """Whether a training run keeps a pair in an epoch, by `chesboard.filtering`.

    text: the model's answer before that epoch; None, without a reward, where the prompt left no
    room for one.
    """

    pair: int
    epoch: int
    """Of the objective, counted from 1."""
    text: str | None
    sample_reward: float | None
    preferred_reward: float
    kept: bool


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
    | FindingRecord
    | PreflightRecord
    | GenerationRecord
    | JudgmentRecord
    | FilterRecord
)
