"""Scores and flags as the API and the pages show them."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chesboard.pairs import Prompt

Measure = Literal[
    "ches",
    "ln_ches",
    "last_hidden_inner_product",
    "normalized_edit_distance",
    "preferred_logprob",
    "dispreferred_logprob",
]
MEASURES: tuple[Measure, ...] = (
    "ches",
    "ln_ches",
    "last_hidden_inner_product",
    "normalized_edit_distance",
    "preferred_logprob",
    "dispreferred_logprob",
)

FlagMeasure = Literal["ches", "ln_ches", "last_hidden_inner_product", "normalized_edit_distance"]

LOW_IS_ALIKE: frozenset[str] = frozenset({"normalized_edit_distance"})
"""Measures by which two responses are the more alike the *smaller* the value is."""

SORTABLE = (
    "pair",
    *MEASURES,
    "preferred_tokens",
    "dispreferred_tokens",
    "prompt_tokens",
    "cut_tokens",
)
SortKey = Annotated[str, Field(pattern=f"^-?({'|'.join(SORTABLE)})$")]
"""A column's name; "-" in front sorts downwards."""


class ScoreOut(BaseModel):
    """One pair's scores; null where a measure was not computed or is not finite."""

    pair: int
    ches: float | None
    ln_ches: float | None
    last_hidden_inner_product: float | None
    normalized_edit_distance: float | None
    preferred_logprob: float | None = Field(description="Sum over the response, in nats.")
    dispreferred_logprob: float | None
    preferred_tokens: int
    dispreferred_tokens: int
    prompt_tokens: int
    cut_tokens: int = Field(description="Tokens cut off prompt and responses together.")
    preferred_ends: list[int] = Field(
        description="Where each token of the response ends, in characters."
    )
    dispreferred_ends: list[int]
    percentile: float | None = Field(
        description="Of CHES among the run's pairs: 0 is the lowest, 100 the highest."
    )
    flagged: bool = Field(description="Whether the dataset's queue of pairs to review holds it.")


class ScoreWithText(ScoreOut):
    prompt: Prompt
    preferred: str
    dispreferred: str


class ScorePage(BaseModel):
    total: int
    items: list[ScoreWithText] | list[ScoreOut]


class Bin(BaseModel):
    low: float
    high: float
    count: int


class MeasureSummary(BaseModel):
    """The finite values of one measure over all pairs of a run."""

    count: int
    nonfinite: int = Field(description="Values that are NaN or infinite; in no other figure.")
    minimum: float | None
    maximum: float | None
    mean: float | None
    quantiles: dict[str, float] = Field(description="'1', '5', '25', '50', '75', '95', '99' (%).")
    histogram: list[Bin] = Field(
        description="Equal bins from the minimum to the maximum; empty without values."
    )


class ScoreSummary(BaseModel):
    run_id: int
    total: int
    measures: dict[Measure, MeasureSummary]


class FlagRequest(BaseModel):
    """Which pairs to put up for review: a share of them, all beyond a threshold, or named ones.

    Pairs whose responses are most alike come first: the highest values, or of the normalized
    edit distance the lowest.
    """

    model_config = ConfigDict(extra="forbid")

    score_run: int = Field(description="A finished score run over this dataset.")
    measure: FlagMeasure = "ches"
    top_fraction: float | None = Field(
        None, gt=0, le=1, description="Share of the scored pairs, rounded up to whole pairs."
    )
    threshold: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Flags values of at least this (normalized_edit_distance: at most this).",
    )

    pairs: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = Field(
        None, max_length=1_000_000, description="Flags these pairs (ordinals), all of them scored."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = (self.top_fraction, self.threshold, self.pairs)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give either top_fraction, threshold or pairs")
        return self


class FlagOut(BaseModel):
    pair: int
    value: float


class FlagQueue(BaseModel):
    """The pairs of a dataset that are up for review, those that are most alike first."""

    dataset_id: int
    score_run: int | None = Field(description="null where nothing is flagged.")
    measure: FlagMeasure | None
    created_at: datetime | None
    flagged: int
    items: list[FlagOut]
