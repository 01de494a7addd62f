"""Which pairs of a dataset a run uses."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from chesboard.configs.base import Config, Count, Ordinal
from chesboard.issues import IssueKind
from chesboard.measures.registry import MeasureName

Ordinals = Annotated[list[Ordinal], Field(fail_fast=True)]
"""As many as a dataset has pairs: the first that is wrong is told alone."""

Verdict = Literal["keep", "drop", "fix", "unsure"]
"""A reviewer's verdict on a pair."""


class MeasureRule(Config):
    """Keeps the pairs at one end of a measure's values in a score run; drops pairs without one."""

    score_run: int = Field(description="A finished score run over the dataset.", ge=1, lt=2**63)
    measure: MeasureName = Field("ln_ches", description="The paper filters by ln_ches (Section 6).")
    keep: Literal["lowest", "highest"] = Field("lowest", description="The end that is kept.")
    fraction: float | None = Field(
        None, gt=0, le=1, description="Fraction of the scored pairs, rounded up."
    )
    threshold: float | None = Field(
        None, allow_inf_nan=False, description="At most (lowest) or at least (highest) this value."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.fraction is None) == (self.threshold is None):
            raise ValueError("give either fraction or threshold")
        return self


class Rules(Config):
    """Selects the pairs of the dataset that pass every rule. Without rules: all pairs."""

    pairs: Ordinals | None = Field(None, description="Only these pairs (ordinals).")
    exclude_flagged: bool = Field(False, description="Exclude flagged pairs.")
    exclude_verdicts: list[Verdict] = Field(
        default_factory=list, description="Exclude pairs with one of these verdicts."
    )
    only_verdicts: list[Verdict] = Field(
        default_factory=list, description="Only pairs with one of these verdicts."
    )
    exclude_issues: list[IssueKind] = Field(
        default_factory=list, description="Exclude pairs with one of these issues."
    )
    only_issues: list[IssueKind] = Field(
        default_factory=list, description="Only pairs with one of these issues."
    )
    measures: list[MeasureRule] = Field(
        default_factory=list,
        max_length=8,
        description="Only pairs at one end of a measure. The paper keeps the lowest 5 % of ln_ches "
        "(up to 15 % worked). Raw CHES is largely an effect of length, and on some data ln_ches "
        "orders displacement the wrong way round: look at both, beside the length gap.",
    )
    complement: bool = Field(
        False, description="Invert the rules above: select the pairs that they exclude."
    )


class RandomSubset(Config):
    """A random subset. The same seed draws the same pairs; a smaller count draws a part of them."""

    count: Count | None = Field(None, description="Number of pairs.")
    fraction: float | None = Field(
        None, gt=0, le=1, description="Fraction of the pairs, rounded up."
    )
    same_size_as: Rules | None = Field(
        None, description="As many pairs as pass these rules: a control for filtering by them."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the random draw.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.count, self.fraction, self.same_size_as)) != 1:
            raise ValueError("give one of count, fraction and same_size_as")
        return self


class Selection(Rules):
    """Which pairs of the dataset a run uses: rules, then a random subset, then a limit."""

    random: RandomSubset | None = Field(
        None, description="A random subset of the pairs that pass the rules."
    )
    limit: Count | None = Field(None, description="At most this many pairs, the first ones.")
