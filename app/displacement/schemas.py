"""Schemas of the displacement API."""

from pydantic import BaseModel, Field

from chesboard.measures.registry import MeasureName


class Displaced(BaseModel):
    """A trained pair after the last step: changes of log-probability against the reference, in
    nats, summed over the response."""

    pair: int
    preferred_change: float | None
    dispreferred_change: float | None
    displaced: bool = Field(
        description="y+ lost more than 1e-4 nats while the margin grew by more than 1e-4 nats."
    )
    value: float | None = Field(description="The pair's measure in the score run.")


class DisplacementList(BaseModel):
    total: int = Field(description="Pairs that the run trained on.")
    measured: int = Field(description="Pairs measured after its last step.")
    items: list[Displaced] = Field(description="The measured pairs, by ordinal.")
    decimated: bool = Field(
        description="Whether `items` is thinned to about `points`: most of them evenly by ordinal, "
        "a fiftieth the lowest and the highest values of `value` and `preferred_change`."
    )
    spearman: float | None = Field(
        description="Rank correlation of `value` and `preferred_change`, ties averaged. For CHES "
        "it is negative where high scores go with a loss of likelihood. Over all pairs, also where "
        "`items` is thinned."
    )
    n: int = Field(description="Number of pairs with both values.")
    measure: MeasureName
    score_run: int | None = Field(description="null where the dataset has not been scored.")


class MeasuredRun(BaseModel):
    run_id: int
    name: str
    measured: int


class MeasuredRunList(BaseModel):
    items: list[MeasuredRun] = Field(description="Newest first.")
