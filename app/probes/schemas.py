"""Watched pairs as the API and the pages show them."""

import math

from pydantic import BaseModel, ConfigDict, Field

BALANCE_TOLERANCE = 1e-5


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


class WatchedToken(_Out):
    token_id: int
    token: str
    initial: float | None
    predicted: float | None


class ProbeOut(_Out):
    """What does not change about a watched pair."""

    pair: int
    prompt: str = Field(description="The prompt as the model reads it.")
    preferred_tokens: list[str] = Field(description="Texts, end token included.")
    dispreferred_tokens: list[str]
    fork_position: int = Field(description="Index of the first response token that differs.")
    groups: dict[str, list[str]] = Field(description="Token groups: name → tokens.")
    watched: list[WatchedToken] = Field(
        description="Tokens whose probability at the fork is kept at every step."
    )


class LedgerEntryOut(_Out):
    """One token's probability at the fork: at step 0, at the ledger's step, the difference."""

    token_id: int
    token: str
    initial: float | None
    final: float | None
    change: float | None
    predicted: float | None = Field(
        description="Predicted change for a small step, up to a common positive factor."
    )


class Ledger(_Out):
    """The mass ledger of one step: gains, losses and the rest sum to zero."""

    step: int | None = Field(description="null where no step has been recorded yet.")
    gainers: list[LedgerEntryOut] = Field(description="Those that gained most, largest first.")
    losers: list[LedgerEntryOut]
    rest_change: float | None = Field(description="All other tokens together.")
    moved_mass: float | None = Field(description="Half the sum of absolute changes.")

    @property
    def imbalance(self) -> float:
        """Gains + losses + rest: zero but for rounding; NaN where a number is not finite."""
        parts = [entry.change for entry in (*self.gainers, *self.losers)] + [self.rest_change]
        return math.fsum(math.nan if part is None else part for part in parts)

    @property
    def is_balanced(self) -> bool:
        return abs(self.imbalance) <= BALANCE_TOLERANCE


class ResponseSeries(_Out):
    tokens: list[str]
    logprobs: list[list[float | None]] = Field(description="[step][k], in nats.")


class ForkSeries(_Out):
    """Probabilities at the fork, one value a recorded step."""

    position: int
    preferred_prob: list[float | None]
    dispreferred_prob: list[float | None]
    other_prob: list[float | None]
    groups: dict[str, list[float | None]]


class TracedEntry(LedgerEntryOut):
    probs: list[float | None] = Field(
        description="Its probability at each recorded step; null where it was not watched."
    )


class ProbeSeries(_Out):
    """Everything seen of one watched pair, and the ledger of its last (or the asked) step."""

    pair: int
    revision: int = Field(description="`events?since=` goes on from here.")
    steps: list[int]
    preferred: ResponseSeries
    dispreferred: ResponseSeries
    fork: ForkSeries
    ledger_step: int | None
    gainers: list[TracedEntry]
    losers: list[TracedEntry]
    rest_change: float | None
    moved_mass: list[float | None] = Field(description="At each recorded step.")
    verdict: str | None = Field(description="What happened up to the ledger's step.")
    displaced: bool | None
