"""Schemas of the forecast API."""

from typing import Literal

from pydantic import BaseModel, Field

from app.store.lookup import Id
from chesboard.configs import Objective, ObjectiveConfig
from chesboard.forecast import Remedy


class ForecastQuery(ObjectiveConfig):
    """What is forecast: of a score run the objective, of a training run its own."""

    score_run: Id | None = Field(
        None,
        description="Of a training run: the score run that foretells. Default: its own "
        "`forecast_run`, else the newest over the same dataset under the same model and limits.",
    )


class Incentives(BaseModel):
    """What an objective does to the two incentives of a pair at the start of training."""

    formula: str = Field(description="The loss of a pair, without the added sft term.")
    ratio: float | None = Field(
        description="r: push up on y+ over push down on y-, of two responses that are alike; null: "
        "y- is not pushed."
    )
    sentence: str
    notices: list[str] = Field(description="What to know of these settings before a run starts.")


class CurvePoint(BaseModel):
    value: float
    falling: int = Field(description="Pairs whose preferred response falls at this value.")


class RemedyCurve(BaseModel):
    """A coefficient that prevents falls, in place of any other remedy asked for.

    Values are rounded towards the stronger to three significant digits, and counted as such. Of
    `dpo_shift_lambda` smaller values are the stronger ones, and 1 is plain dpo.
    """

    remedy: Remedy
    objective: Objective = Field(
        description="To train with: dpop_lambda turns dpo into dpop, dpo_shift_lambda into "
        "dpo_shift."
    )
    recommended: float | None = Field(
        description="The weakest value at which at most 5 % of the pairs fall; null: no number "
        "does."
    )
    prevents_all: float | None = Field(description="The weakest value at which none falls.")
    curve: list[CurvePoint] = Field(
        description="From no remedy (0, or 1 of dpo_shift_lambda) to the strongest, at quantiles "
        "of what the pairs need; it holds both values above."
    )


class FallingPair(BaseModel):
    """A pair whose preferred response is forecast to fall, with its texts cut for display."""

    pair: int
    shift: float = Field(
        description="First-order change of log p(y+) per unit of learning rate, through the head."
    )
    required_ratio: float = Field(
        description="y+ falls where the objective's push up on it is less than this times its push "
        "down on y-."
    )
    head_cosine: float
    preferred: str
    dispreferred: str


class Forecast(BaseModel):
    """The first step of plain gradient descent on each pair, through the output head."""

    kind: Literal["score"] = "score"
    run_id: int
    objective: Objective
    config: ObjectiveConfig
    pairs: int = Field(description="Pairs with the measures that a forecast needs.")
    missing: int = Field(
        description="Scored pairs without them: scored by an earlier version, by a model without "
        "these measures, or of a model that is certain of a response."
    )
    message: str | None = Field(description="Why there is no forecast, and what to do.")
    falling: int = Field(description="Preferred responses that become less likely.")
    rising_dispreferred: int = Field(description="Dispreferred responses that become likelier.")
    remedies: list[RemedyCurve] = Field(description="Those that the objective has.")
    worst: list[FallingPair] = Field(description="The 10 pairs that fall most.")


class Rank(BaseModel):
    """How well one number orders the measured changes."""

    name: str = Field(description="`forecast`, or a measure's name.")
    spearman: float | None = Field(
        description="Rank correlation with the measured change of log p(y+), ties averaged."
    )


class ForecastBin(BaseModel):
    """As many pairs as in the other bins, with neighboring forecasts."""

    pairs: int
    forecast: float = Field(description="Mean forecast, per unit of learning rate.")
    change: float = Field(description="Mean measured change of log p(y+), nats.")
    fell: int


class ForecastPoint(BaseModel):
    pair: int
    forecast: float
    change: float


class ForecastCheck(BaseModel):
    """The forecast of a training run's first step against what the run measured at its end.

    fell: log p(y+) lost more than 1e-4 nats against the reference.
    """

    kind: Literal["train"] = "train"
    run_id: int
    score_run: int | None = Field(
        description="null: no score run over the same dataset under the same model and limits."
    )
    score_run_name: str | None
    is_own: bool = Field(description="Whether it is the `forecast_run` of the training run.")
    objective: Objective
    config: ObjectiveConfig
    message: str | None = Field(description="Why nothing can be compared, and what to do.")
    pairs: int = Field(description="Pairs with a forecast and a measured change.")
    left_out: int = Field(
        description="Measured pairs without a forecast, or edited between the two runs."
    )
    forecast_fall_fell: int
    forecast_fall_not: int
    not_forecast_fell: int
    not_forecast_not: int
    hit_rate: float | None = Field(description="Share of pairs whose sign was forecast.")
    base_rate: float | None = Field(
        description="Hit rate of the best guess that is the same for every pair."
    )
    ranks: list[Rank] = Field(description="The forecast, then measures to hold it against.")
    bins: list[ForecastBin] = Field(description="At most 10, by ascending forecast.")
    points: list[ForecastPoint] = Field(description="At most 5,000 pairs, evenly by ordinal.")
