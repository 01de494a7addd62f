"""JSON shapes of scores, their distribution and the queue of flagged pairs."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.store.lookup import Id
from chesboard.configs.base import Ordinal
from chesboard.measures.registry import (
    MEASURE_NAMES,
    MEASURES,
    MeasureName,
    SimilarityMeasureName,
)
from chesboard.pairs import Prompt

LOW_IS_SIMILAR: frozenset[str] = frozenset(
    measure.name for measure in MEASURES if measure.similar_end == "low"
)
"""Measures whose lowest values belong to the pairs with the most similar responses."""

SORTABLE = (
    "pair",
    *MEASURE_NAMES,
    "preferred_tokens",
    "dispreferred_tokens",
    "prompt_tokens",
    "cut_tokens",
)
SortKey = Annotated[str, Field(pattern=f"^-?({'|'.join(SORTABLE)})$")]
"""A column's name; a leading "-" sorts descending."""


class ScoreOut(BaseModel):
    """One pair's scores; null where a measure was not computed or is not finite."""

    pair: int
    ches: float | None
    ln_ches: float | None
    last_hidden_inner_product: float | None
    normalized_edit_distance: float | None
    preferred_logprob: float | None = Field(description="Sum over the response, in nats.")
    dispreferred_logprob: float | None
    implicit_gap: float | None = Field(
        description="log p(y+) - log p(y-) under the scored model, in nats."
    )
    length_gap: float | None = Field(description="Tokens of y- minus tokens of y+.")
    head_shift: float | None = Field(
        description="Predicted first change of log p(y+) per unit of DPO's push through the output "
        "head; negative: it falls. Null in runs of earlier versions."
    )
    head_cosine: float | None = Field(
        description="Cosine between the gradients of both log-probabilities at the output head."
    )
    preferred_grad_norm: float | None = Field(
        description="Norm of the gradient of log p(y+) at the output head."
    )
    dispreferred_grad_norm: float | None
    preferred_tokens: int
    dispreferred_tokens: int
    prompt_tokens: int
    cut_tokens: int = Field(description="Tokens truncated from prompt and responses together.")
    preferred_ends: list[int] = Field(
        description="Offset of the end of each token in the response's text, in characters."
    )
    dispreferred_ends: list[int]
    percentile: float | None = Field(
        description="Percentile of CHES in the run: 0 is the lowest, 100 the highest."
    )
    flagged: bool = Field(
        description="Whether the pair is in the dataset's queue of pairs flagged for review."
    )


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
    """Statistics of one measure over all pairs of a run, of its finite values."""

    count: int
    nonfinite: int = Field(
        description="Number of NaN and infinite values; no other field counts them."
    )
    minimum: float | None
    maximum: float | None
    mean: float | None
    quantiles: dict[str, float] = Field(
        description="By percent: '1', '5', '25', '50', '75', '95', '99'."
    )
    histogram: list[Bin] = Field(
        description="Bins of equal width from the minimum to the maximum; empty without values."
    )


class ScoreSummary(BaseModel):
    run_id: int
    total: int
    measures: dict[MeasureName, MeasureSummary]


class FlagRequest(BaseModel):
    """Which pairs to flag: the top fraction, all beyond a threshold, or named ones.

    Pairs with the most similar responses come first: those with the highest values, for
    normalized_edit_distance those with the lowest.
    """

    model_config = ConfigDict(extra="forbid")

    score_run: Id = Field(description="Id of a succeeded score run over this dataset.")
    measure: SimilarityMeasureName = "ches"
    top_fraction: float | None = Field(
        None, gt=0, le=1, description="Fraction of the scored pairs, rounded up to whole pairs."
    )
    threshold: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Flag values of at least this (normalized_edit_distance: at most this).",
    )
    pairs: list[Ordinal] | None = Field(
        None,
        max_length=1_000_000,
        description="Flag these pairs (ordinals); each must have a score.",
    )

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        ways = (self.top_fraction, self.threshold, self.pairs)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give either top_fraction, threshold or pairs")
        return self


class FlagOut(BaseModel):
    pair: int
    value: float


class FlagQueue(BaseModel):
    """The pairs of a dataset flagged for review, those with the most similar responses first."""

    dataset_id: int
    score_run: int | None = Field(description="null where nothing is flagged.")
    measure: SimilarityMeasureName | None
    created_at: datetime | None
    flagged: int
    items: list[FlagOut]
