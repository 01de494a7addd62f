"""Schemas of the probes API: watched pairs and prompts, their series, ledgers and bands."""

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.probes.headline import Headline, Observation
from chesboard.probing.destinations import Destination, DisplacementKind
from chesboard.records import PredictionKind

BALANCE_TOLERANCE = 1e-5


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


class WatchedToken(_Out):
    token_id: int
    token: str
    initial: float | None
    predicted: float | None


class PredictedToken(_Out):
    """A token that is predicted to gain probability."""

    token_id: int
    token: str
    predicted: float | None


class TokenGroup(_Out):
    name: str
    tokens: list[str]


class Positions(_Out):
    """Response positions that have a ledger, counted from 0."""

    preferred: list[int]
    dispreferred: list[int]


class DrawdownOut(_Out):
    """The largest fall of a curve from a peak to a later trough."""

    size: float
    peak: float
    peak_step: int
    trough: float
    trough_step: int


class DestinationGain(_Out):
    destination: Destination
    gain: float = Field(description="Net change of probability since step 0.")


class TopGainer(_Out):
    token: str
    change: float


class DisplacementOut(_Out):
    """What became of the probability that a pair's preferred response lost."""

    pair: int
    kind: DisplacementKind | None = Field(
        description="kept: y+ did not become less likely. benign: displaced, and the mass went to "
        "spellings of the preferred token or to its token group or, with `opposite_groups` "
        "declared, anywhere but there. catastrophic: an opposite group gained most or took the "
        "lead, or the greedy answer turned from refusing to complying. null: not displaced though "
        "y+ fell, or not to be told: no opposite declared, or no ledger where most was lost."
    )
    destination: Destination | None = Field(
        description="What gained most at `position`. variant: a spelling of the preferred token "
        "(case, space, punctuation); own_group, opposite_group: of the token groups; mode: the "
        "token that was likeliest at step 0 (squeezing), if none of these; elsewhere: the others."
    )
    destination_gains: list[DestinationGain] = Field(
        description="Largest first; empty unless displaced and recorded."
    )
    position: int | None = Field(
        description="Index of the token of y+ that lost most log-probability, or the fork where "
        "an opposite group gained most there; null unless displaced."
    )
    onset_step: int | None = Field(description="Recorded step since which it is displaced.")
    drawdown: DrawdownOut | None = Field(
        description="Of the preferred token's probability at the fork, over all recorded steps; "
        "null where it never fell."
    )
    logprob_drawdown: DrawdownOut | None = Field(
        description="Of the change of log p(y+) since step 0, in nats."
    )
    top_gainer: TopGainer | None
    squeezing: bool = Field(
        description="Whether the token that gained most was the likeliest at step 0: the argmax "
        "rose, whatever it means."
    )
    answer_turned: bool = Field(
        description="Whether the greedy answer refused at first (by keywords) and no longer does, "
        "where y+ is a refusal."
    )

    @classmethod
    def of(cls, observed: Observation) -> Self | None:
        """None where nothing is judged: under cross-entropy, and where numbers are not finite."""
        one = observed.displacement
        if one is None:
            return None
        gains = sorted((one.gains or {}).items(), key=lambda item: -item[1])
        token, change = one.top_gainer or (None, None)
        return cls.model_validate(
            {
                "pair": observed.pair,
                "kind": one.kind,
                "destination": one.destination,
                "destination_gains": [{"destination": name, "gain": gain} for name, gain in gains],
                "position": one.position,
                "onset_step": observed.onset_step if observed.displaced else None,
                "drawdown": one.drawdown,
                "logprob_drawdown": one.logprob_drawdown,
                "top_gainer": None if token is None else {"token": token, "change": change},
                "squeezing": one.is_squeezed,
                "answer_turned": one.has_turned,
            }
        )


def displacement_fields(headline: Headline | None) -> dict[str, Any]:
    """`displacement_kind` and `displacement` of a headline's pair."""
    about = headline.about if headline else None
    found = DisplacementOut.of(about) if about else None
    return {"displacement_kind": found.kind if found else None, "displacement": found}


class ProbeOut(_Out):
    """The constant part of a probe: a watched pair, or a prompt of the user's own."""

    pair: int = Field(description="The pair's ordinal; prompts are -1, -2, ...")
    kind: Literal["pair", "prompt"]
    name: str | None
    prompt: str = Field(description="The prompt as the model reads it.")
    preferred_tokens: list[str] = Field(
        description="Texts, end token included; empty for a prompt."
    )
    dispreferred_tokens: list[str]
    fork_position: int = Field(
        description="Index of the first response token that differs; 0 for a prompt, whose "
        "distribution is that of the token which follows it."
    )
    groups: dict[str, list[str]] = Field(description="Token groups: name → tokens.")
    groups_list: list[TokenGroup] = Field(
        description="The same groups in the order of `group_probs`. Each watched word of a prompt "
        "is a group named by the word; these come first."
    )
    watched: list[WatchedToken] = Field(
        description="Tokens whose probability at the fork is recorded at every step."
    )
    predicted: list[PredictedToken] = Field(
        description="The tokens predicted to gain most at the fork, in the order of the "
        "steps' `predicted_changes` and `predicted_ranks`."
    )
    positions: Positions
    displacement_kind: DisplacementKind | None = Field(
        description="At the last recorded step; null for a prompt and where it cannot be told."
    )
    displacement: DisplacementOut | None


class LedgerEntryOut(_Out):
    """One token's probability at step 0 and at the ledger's step, and the difference."""

    token_id: int
    token: str
    initial: float | None
    final: float | None
    change: float | None
    predicted: float | None = Field(
        description="Predicted change for a small step, up to a common positive factor."
    )


class Ledger(_Out):
    """The mass ledger of one step: gains, losses and rest_change sum to zero."""

    step: int | None = Field(description="null where no step has been recorded yet.")
    gainers: list[LedgerEntryOut] = Field(description="Tokens that gained most, largest first.")
    losers: list[LedgerEntryOut]
    rest_change: float | None = Field(description="Sum over all other tokens.")
    moved_mass: float | None = Field(description="Half the sum of absolute changes.")

    @property
    def imbalance(self) -> float:
        """Gains + losses + rest_change: zero up to rounding; NaN where one is not finite."""
        parts = [entry.change for entry in (*self.gainers, *self.losers)] + [self.rest_change]
        return math.fsum(math.nan if part is None else part for part in parts)

    @property
    def is_balanced(self) -> bool:
        return abs(self.imbalance) <= BALANCE_TOLERANCE


class RecentLedgerOut(_Out):
    """The ledger since the previously recorded step; `initial` is the probability at that step."""

    since_step: int
    gainers: list[LedgerEntryOut]
    losers: list[LedgerEntryOut]
    rest_change: float | None
    moved_mass: float | None


class PredictedOut(_Out):
    """A token that is predicted to gain probability, and its actual change."""

    token_id: int
    token: str
    predicted: float | None = Field(description="Up to a common positive factor.")
    predicted_rank: int = Field(description="In the whole vocabulary; 1 is predicted to gain most.")
    actual_change: float | None
    actual_rank: int | None = Field(
        description="In the whole vocabulary; 1 gained most. null at step 0."
    )


class WatchedNow(WatchedToken):
    prob: float | None


class PositionLedger(Ledger):
    """The mass ledger of one step at any recorded position."""

    position: int
    response: Literal["preferred", "dispreferred"]
    recent: RecentLedgerOut | None = Field(description="null at step 0.")
    predicted: list[PredictedOut] = Field(
        description="Top predicted gainers. Empty where theory predicts nothing: at a prompt, and "
        "before the fork, where the gradients of both responses cancel."
    )
    rank_agreement: float | None = Field(
        description="Spearman's correlation of predicted and actual change over the watched "
        "tokens; null where it is undefined."
    )
    prediction_kind: PredictionKind | None = Field(
        description="What the prediction follows from. geometry: the unembedding, at the fork and "
        "in y+; squeezing: the softmax of y-, which is pushed down alone behind the fork. null "
        "where nothing is predicted."
    )
    argmax_token: str | None = Field(
        description="The most likely token at this step; null in runs of earlier versions."
    )
    argmax_logprob: float | None = Field(description="Its log-probability, in nats.")
    kl: float | None = Field(
        description="KL divergence of the distribution at this position from that of step 0, in "
        "nats; null in runs of earlier versions."
    )
    watched: list[WatchedNow] = Field(description="The position's watched tokens at this step.")
    positions: Positions


class WatchedSeries(_Out):
    """The watched tokens of one position at every recorded step."""

    position: int
    response: Literal["preferred", "dispreferred"]
    steps: list[int]
    total_steps: int
    decimated: bool
    tokens: list["WatchedTrace"]


class WatchedTrace(WatchedToken):
    probs: list[float | None]


class Quantiles(_Out):
    """Quantiles over the watched pairs by step; null where no pair has a finite value."""

    q05: list[float | None]
    q25: list[float | None]
    q50: list[float | None]
    q75: list[float | None]
    q95: list[float | None]


class Bands(_Out):
    """Quantiles over all watched pairs of the change of log-probability since step 0, nats."""

    steps: list[int]
    total_steps: int
    decimated: bool
    probes: int = Field(description="Number of watched pairs.")
    preferred_change: Quantiles
    dispreferred_change: Quantiles
    margin: Quantiles
    displaced_fraction: list[float | None] = Field(
        description="Share of the pairs that are displaced: y+ lost more than 1e-4 nats while the "
        "margin grew by more than 1e-4 nats."
    )


class AnswerOut(_Out):
    step: int
    text: str
    ended: bool = Field(description="Whether it ended with an end token before the token limit.")


class AnswerList(_Out):
    items: list[AnswerOut]


class ResponseSeries(_Out):
    tokens: list[str]
    logprobs: list[list[float | None]] = Field(description="[step][k], in nats.")


class ForkSeries(_Out):
    """Probabilities at the fork, one value for each recorded step."""

    position: int
    preferred_prob: list[float | None] = Field(description="null throughout for a prompt.")
    dispreferred_prob: list[float | None]
    other_prob: list[float | None]
    groups: dict[str, list[float | None]]


class TracedEntry(LedgerEntryOut):
    probs: list[float | None] = Field(
        description="Its probability at each recorded step; null for a token not watched."
    )


class ProbeSeries(_Out):
    """All recorded steps of one probe, and the ledger of the last (or the requested) step."""

    pair: int
    revision: int = Field(description="Pass as `events?since=` to stream what follows.")
    steps: list[int]
    total_steps: int = Field(description="Number of recorded steps in the requested range.")
    decimated: bool = Field(
        description="Whether `steps` is downsampled. The first and the last step and the extremes "
        "of the curves at the fork, of the groups and of both changes are kept."
    )
    preferred: ResponseSeries
    dispreferred: ResponseSeries
    fork: ForkSeries
    ledger_step: int | None
    gainers: list[TracedEntry]
    losers: list[TracedEntry]
    rest_change: float | None
    moved_mass: list[float | None] = Field(description="At each recorded step.")
    verdict: str | None = Field(
        description="What happened up to the ledger's step, in words with the numbers at the fork."
    )
    verdict_short: str | None = Field(description="The same in one sentence.")
    displaced: bool | None
    displacement_kind: DisplacementKind | None = Field(description="At the ledger's step.")
    displacement: DisplacementOut | None = Field(description="Up to the ledger's step.")
    destination_onsets: dict[Destination, int] = Field(
        description="The first recorded step at which the pair was displaced and this destination "
        "had gained most at the fork, of the watched tokens."
    )
    argmax_token: str | None = Field(
        description="The most likely token at the fork at the ledger's step."
    )
    argmax_logprob: float | None
    kl: list[float | None] = Field(
        description="KL divergence of the distribution at the fork from that of step 0, in nats, "
        "by step; null in runs of earlier versions."
    )
    preferred_change: list[float | None] = Field(description="Since step 0, in nats, by step.")
    dispreferred_change: list[float | None]
    rank_agreement: list[float | None] = Field(description="At the fork, by step.")
    onset_step: int | None = Field(
        description="The recorded step since which the pair has been displaced; null where it is "
        "not displaced at the ledger's step."
    )
    predicted_hit: int | None = Field(
        description="Number of the ledger's top 3 gainers among the 10 predicted ones."
    )
