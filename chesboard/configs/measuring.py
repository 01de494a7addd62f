"""Runs that measure pairs under a model as it is."""

from typing import Literal

from pydantic import Field

from chesboard.configs.base import ModelConfig
from chesboard.configs.optimizer import OptimizerConfig
from chesboard.configs.selection import Selection


class ForwardOnlyConfig(ModelConfig):
    """Runs that only compute log-probabilities and measures, and so may read a model in layers."""

    stream: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Keep one layer of the model in memory at a time, read from disk for as many "
        "pairs as memory holds at once. The results are the same to the last bit. auto: where the "
        "model does not fit into memory.",
    )


class ScoreConfig(ForwardOnlyConfig):
    """CHES and the other measures of the pairs of a dataset (arXiv 2410.08847, Section 5)."""

    selection: Selection = Field(
        default_factory=Selection, description="The pairs of the dataset to score."
    )


class EvaluateConfig(ForwardOnlyConfig):
    """The log-probabilities of every pair under a model, without the other measures."""


class CheckConfig(ModelConfig):
    """What the model reads: tokenizes every pair under a model and lists what is cut, refused,
    merged or doubled; computes nothing else."""


MAX_PREFLIGHT_PAIRS = 64
"""Every pair's step is followed through all pairs, so the work grows with the square."""


class PreflightConfig(OptimizerConfig, ModelConfig):
    """What the first step of training on each of some pairs alone would do to all of them: to
    first order, along the optimizer's own step, before anything is trained."""

    selection: Selection = Field(
        default_factory=lambda: Selection(limit=16),
        description=f"The pairs to look at, {MAX_PREFLIGHT_PAIRS} at most.",
    )
