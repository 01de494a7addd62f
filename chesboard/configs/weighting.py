"""How much each pair counts in training, and from when on it does not."""

import math

from pydantic import Field, field_validator

from chesboard.configs.answers import AnswerTokens, TopP
from chesboard.configs.base import Config
from chesboard.measures.registry import MeasureName


class PairWeights(Config):
    """The weight of a pair's loss: 1 - slope * measure, between 0 and 1; 0 without the measure."""

    score_run: int = Field(description="A finished score run over the dataset.", ge=1, lt=2**63)
    measure: MeasureName = Field("ln_ches", description="The measure of each pair.")
    slope: float = Field(
        1.0,
        ge=-1e6,
        le=1e6,
        description="How fast the weight falls with the measure; negative: how fast it falls with "
        "the measure below zero.",
    )

    @field_validator("slope")
    @classmethod
    def _weighs(cls, slope: float) -> float:
        if slope == 0:
            raise ValueError("must not be 0, which would give every pair the weight 1")
        return slope

    def weight(self, value: float | None) -> float:
        """Of a pair with this value; None or not finite: 0, as rules by measure leave it out."""
        if value is None or not math.isfinite(value):
            return 0.0
        return min(1.0, max(0.0, 1 - self.slope * value))


class RefreshFilter(Config):
    """Filtered DPO (arXiv 2404.13846): before each epoch the model answers the prompt of every pair
    that is left; a pair whose preferred response gets no higher reward than that answer is dropped
    for good."""

    reward_model: str = Field(
        min_length=1,
        max_length=500,
        description="Name of a reward model, or of a classifier with two labels, in the models "
        "folder. It is held in memory beside the model that is trained.",
    )
    label: str | None = Field(
        None,
        max_length=200,
        description="Of a classifier: the label whose log-odds are the reward. A reward model has "
        "none.",
    )
    answer_tokens: AnswerTokens = 256
    temperature: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Divides the logits before sampling. 0: greedy decoding.",
    )
    top_p: TopP = 1.0
