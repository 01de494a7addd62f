"""An objective's optimizer, its learning rate and its schedule."""

from typing import Literal, Self

from pydantic import Field, model_validator

from chesboard.configs.objective import ObjectiveConfig

Optimizer = Literal["adamw", "rmsprop", "sgd"]
Scheduler = Literal["constant", "linear", "cosine"]

DEFAULT_LEARNING_RATES: dict[str, float] = {
    "adamw": 1e-6,  # TRL's default for DPO
    "rmsprop": 1e-7,  # the paper's single-prompt runs (Section 3)
    "sgd": 1e-4,
}


class OptimizerConfig(ObjectiveConfig):
    """An objective and the optimizer that follows its gradient."""

    optimizer: Optimizer = Field("adamw", description="The paper uses rmsprop.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="Default: 1e-6 for adamw, 1e-7 for rmsprop, 1e-4 for sgd.",
        validate_default=True,
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="Weight decay; decoupled for adamw.")

    @model_validator(mode="after")
    def _fill_learning_rate(self) -> Self:
        if self.learning_rate is None:
            self.learning_rate = DEFAULT_LEARNING_RATES[self.optimizer]
        return self
