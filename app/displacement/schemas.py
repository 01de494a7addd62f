"""Measured displacement as the API and the pages show it."""

from pydantic import BaseModel, Field

from chesboard.measures.registry import MeasureName


class Displaced(BaseModel):
    """A trained pair after the last step against the reference; nats, sums over the response."""

    pair: int
    preferred_change: float | None
    dispreferred_change: float | None
    displaced: bool = Field(description="y+ lost likelihood while the margin grew.")
    value: float | None = Field(description="The pair's measure in the score run.")


class DisplacementList(BaseModel):
    total: int = Field(description="Pairs that the run trained on.")
    measured: int = Field(description="Those measured after its last step.")
    items: list[Displaced] = Field(description="The measured ones, by ordinal.")
    spearman: float | None = Field(
        description="Rank correlation of `value` and `preferred_change`, ties averaged. Of CHES it "
        "is negative where a high score comes with a loss of likelihood."
    )
    n: int = Field(description="How many pairs have both.")
    measure: MeasureName
    score_run: int | None = Field(description="null where the dataset has not been scored.")


class MeasuredRun(BaseModel):
    run_id: int
    name: str
    measured: int


class MeasuredRunList(BaseModel):
    items: list[MeasuredRun] = Field(description="The newest first.")
