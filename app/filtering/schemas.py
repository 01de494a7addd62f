"""JSON shapes of the decisions of a training run's filter."""

from pydantic import BaseModel, Field

from chesboard.pairs import Prompt


class DecisionOut(BaseModel):
    """Whether one pair is in one epoch."""

    pair: int
    epoch: int = Field(description="Of the objective, counted from 1; decided before it.")
    kept: bool = Field(description="False: the pair is in no epoch from this one on.")
    sample_reward: float | None = Field(
        description="Reward of the model's answer. Null: there is none, or it is not finite."
    )
    preferred_reward: float | None = Field(
        description="Reward of the preferred response. Null: not finite."
    )
    text: str | None = Field(
        description="The model's answer before the epoch. Null: the prompt left no room for one."
    )
    prompt: Prompt = Field(description="As the run was given it; in pages, long ones are cut.")
    preferred: str = Field(description="The preferred response, as the run was given it.")


class FilterEpoch(BaseModel):
    """What was decided before one epoch; means are of pairs with two finite rewards."""

    epoch: int
    pairs: int = Field(description="Pairs decided on so far.")
    dropped: int
    mean_sample_reward: float | None
    mean_preferred_reward: float | None


class DecisionPage(BaseModel):
    total: int = Field(description="Decisions that match.")
    decisions: int = Field(description="All decisions of the run so far.")
    epochs: list[FilterEpoch]
    items: list[DecisionOut]
