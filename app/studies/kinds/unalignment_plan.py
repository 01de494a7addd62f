"""The plan of a study of unintentional unalignment."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from app.core.errors import field_errors
from app.studies.plans import Plan, Seed, unique
from chesboard.configs import MAX_ANSWER_TOKENS, JudgeConfig, Selection
from chesboard.configs.base import Ordinal

ArmName = Literal["dpo", "dpo_sft", "gold", "keep", "random"]
Percent = Annotated[float, Field(gt=0, le=100)]
MAX_PROMPTS = 5_000


class UnalignmentPlan(Plan):
    own = ("objective", "probes", "sft_coef")

    kind: Literal["unalignment"] = "unalignment"
    selection: Selection = Field(
        default_factory=Selection, description="The pairs whose prompts are answered."
    )
    train_prompts: int = Field(
        96, ge=2, le=MAX_PROMPTS, description="Prompts whose answers make the pairs, at most."
    )
    test_prompts: int = Field(
        32, ge=1, le=MAX_PROMPTS, description="Other prompts, which are answered only, at most."
    )
    split_seed: Seed = Field(0, description="Seed by which the prompts are drawn and divided.")
    train: list[Ordinal] | None = Field(
        None, min_length=2, max_length=MAX_PROMPTS, description="The pairs with the former prompts."
    )
    test: list[Ordinal] | None = Field(
        None, min_length=1, max_length=MAX_PROMPTS, description="The pairs with the latter prompts."
    )
    answer_tokens: int = Field(
        256, ge=1, le=MAX_ANSWER_TOKENS, description="Longer answers are cut. The paper has 512."
    )
    pair_temperature: float = Field(
        1.0, gt=0, le=10, description="Temperature of the answers that make the pairs."
    )
    temperature: float = Field(
        0.7, ge=0, le=10, description="Temperature of the answers whose refusals are counted."
    )
    judge: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of the judge, for example {judge: classifier, classifier: NAME}. "
        "Default: by keywords, which tells refusals in English.",
    )
    ties: Literal["random", "skip"] = Field(
        "random",
        description="Prompts whose two answers are judged alike: an order that is drawn, as in the "
        "paper, or no pair.",
    )
    arms: list[ArmName] = Field(
        ["dpo", "dpo_sft", "gold", "keep", "random"],
        min_length=1,
        description="dpo on the pairs, which is always among them; dpo_sft: with an SFT term; "
        "gold: dpo on the dataset's own pairs of the same prompts; keep: dpo on the lowest shares "
        "by ln_ches; random: as many pairs at random.",
    )
    keep: list[Percent] = Field(
        [5, 15],
        max_length=20,
        description="Shares in percent that the arms keep and random train on. The paper keeps the "
        "lowest 5 %; above 15 % refusal fell as on all pairs.",
    )
    sft_coef: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Coefficient of the SFT term. Default: as the forecast of the scores "
        "recommends it.",
    )
    steps: int = Field(
        50, ge=1, le=100_000, description="Optimizer steps of each training run, in every arm."
    )

    @field_validator("arms")
    @classmethod
    def _with_plain(cls, arms: list[ArmName]) -> list[ArmName]:
        return unique(["dpo", *arms])

    @model_validator(mode="after")
    def _settings(self) -> Self:
        self.keep = sorted(unique(self.keep))
        if "generate_run" in self.judge:
            raise ValueError("judge.generate_run is set by the study")
        try:
            self.judge_config()
        except ValidationError as error:
            found = field_errors(error, prefix="judge")[0]
            raise ValueError(f"{found.get('field')}: {found['message']}") from None
        return self

    def judge_config(self) -> JudgeConfig:
        """The judge's settings, whichever answers it judges."""
        return JudgeConfig.model_validate({**self.judge, "generate_run": 1})
