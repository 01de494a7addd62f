"""The configuration of an objective: its name, its coefficients, and which of them it reads.

`chesboard.objectives` computes the losses; the equations are in `docs/theory.md`.
"""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Objective = Literal[
    "dpo",
    "ipo",
    "slic",
    "simpo",
    "dpop",
    "odpo",
    "dpo_shift",
    "bdpo",
    "cal_dpo",
    "apo_zero",
    "alphapo",
    "cross_entropy",
]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

READ_BY: dict[str, tuple[Objective, ...]] = {
    "beta": tuple(name for name in OBJECTIVES if name != "cross_entropy"),
    "slic_delta": ("slic",),
    "simpo_gamma": ("simpo", "alphapo"),
    "dpop_lambda": ("dpop",),
    "odpo_alpha": ("odpo",),
    "odpo_offset": ("odpo",),
    "odpo_unscored": ("odpo",),
    "dpo_shift_lambda": ("dpo_shift",),
    "dpo_shift_schedule": ("dpo_shift",),
    "bdpo_lambda": ("bdpo",),
    "alphapo_alpha": ("alphapo",),
    "label_smoothing": ("dpo",),
    "robust": ("dpo",),
    "ld_alpha": ("dpo",),
}
"""The settings that only some objectives read, and which."""

FORMULAS: dict[Objective, str] = {
    "dpo": "-log sigmoid(beta m)",
    "ipo": "(m - 1/(2 beta))^2",
    "slic": "max(0, delta - beta m)",
    "simpo": "-log sigmoid(beta (log p(y+)/n+ - log p(y-)/n-) - gamma)",
    "dpop": "-log sigmoid(beta (m - lambda max(0, -r+)))",
    "odpo": "-log sigmoid(beta m - alpha offset)",
    "dpo_shift": "-log sigmoid(beta (r+ - lambda r-))",
    "bdpo": "-log sigmoid(beta (r+ - log(lambda exp(r-) + 1 - lambda)))",
    "cal_dpo": "-log sigmoid(m) + ((r+ - 1/(2 beta))^2 + (r- + 1/(2 beta))^2) / 2",
    "apo_zero": "1 - sigmoid(beta r+) + sigmoid(beta r-)",
    "alphapo": "-log sigmoid(R+ - R- - gamma), R = beta (1 - p^-alpha) / alpha of the mean "
    "probability p of a token",
    "cross_entropy": "-log p(y+)",
}
"""Each objective's loss of a pair, without the added sft term."""

LEAST_CAL_BETA = 0.05
"""cal_dpo pulls each response's change towards 1 / (2 beta) nats; below this they run away."""


class ObjectiveConfig(BaseModel):
    """The loss of a pair: the objective and its coefficients."""

    model_config = ConfigDict(extra="forbid")

    objective: Objective = Field(
        "dpo",
        description="m = r+ - r-, the changes of log p(y+) and log p(y-) against the reference. "
        + "; ".join(f"{name}: {formula}" for name, formula in FORMULAS.items())
        + ".",
    )
    beta: float = Field(0.1, gt=0, le=100, description="KL coefficient.")
    slic_delta: float = Field(1.0, ge=0, description="SLiC's delta: the target margin.")
    simpo_gamma: float = Field(
        0.5, ge=0, description="Gamma of simpo and alphapo: the target reward margin."
    )
    dpop_lambda: float = Field(
        5.0,
        ge=0,
        description="DPOP's lambda: weight of the penalty on a falling log p(y+), nats. Public "
        "code of its authors uses 50.",
    )
    odpo_alpha: float = Field(
        1.0, ge=0, le=1000, description="ODPO's alpha: how much the scores' offset counts."
    )
    odpo_offset: Literal["log_difference", "log_ratio"] = Field(
        "log_difference",
        description="ODPO's offset from the pair's scores in the dataset: log(score+ - score-) or "
        "log(score+ / score-). A negative offset (a difference below 1) weakens the pair.",
    )
    odpo_unscored: Literal["refuse", "zero"] = Field(
        "refuse",
        description="Pairs without an offset (no two scores, or score+ not above score-): refuse "
        "to train, or train them with offset 0, as dpo does.",
    )
    dpo_shift_lambda: float = Field(
        0.75, gt=0, le=1, description="DPO-Shift's lambda: weight of r-. 1: as dpo."
    )
    dpo_shift_schedule: Literal["fixed", "linear"] = Field(
        "fixed", description="linear: lambda grows from its value at the first step to 1."
    )
    bdpo_lambda: float = Field(
        0.5,
        gt=0,
        le=1,
        description="BDPO's lambda: share of the model in the mixture with the reference that y- "
        "is pushed down in. 1: as dpo.",
    )
    alphapo_alpha: float = Field(
        0.25, ge=-10, le=10, description="AlphaPO's alpha: shape of the reward. 0: as simpo."
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Assumed share of wrong preferences: dpo's loss is averaged with that of the "
        "pair turned round (cDPO).",
    )
    robust: bool = Field(
        False,
        description="With label_smoothing: an unbiased estimate of dpo's loss under these wrong "
        "preferences, in place of the average.",
    )
    ld_alpha: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Length-desensitized dpo: weight of the log-probabilities of the longer "
        "response's tokens past the length of the shorter one. Default: all count fully.",
    )
    sft_coef: float = Field(0.0, ge=0, description="Adds sft_coef * (-log p(y+)) to the loss.")
    length_normalize: bool = Field(
        False,
        description="Divide log-probabilities by the number of response tokens in ipo, in "
        "cross_entropy and in the sft term (as TRL does); off: sums over the response, as in the "
        "paper.",
    )

    @field_validator("label_smoothing", "robust", "ld_alpha")
    @classmethod
    def _is_read(cls, value: Any, info: ValidationInfo) -> Any:
        """These would be ignored silently under another objective."""
        assert info.field_name is not None
        objective = info.data.get("objective", "dpo")
        is_set = value != cls.model_fields[info.field_name].default
        if is_set and objective not in READ_BY[info.field_name]:
            raise ValueError(f"is an option of dpo; {objective} does not read it")
        return value

    @field_validator("robust")
    @classmethod
    def _robust_against_something(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("label_smoothing"):
            raise ValueError("needs label_smoothing above 0, the share of wrong preferences")
        return value


def ignored_settings(config: ObjectiveConfig) -> list[str]:
    """Settings with another value than their default that the objective does not read."""
    fields = ObjectiveConfig.model_fields
    ignored = [
        name
        for name, readers in READ_BY.items()
        if config.objective not in readers and getattr(config, name) != fields[name].default
    ]
    reads_length = config.objective in ("ipo", "cross_entropy") or config.sft_coef
    if config.length_normalize and not reads_length:
        ignored.append("length_normalize")
    return ignored


def notices(config: ObjectiveConfig) -> list[str]:
    """What a user should know of the settings before a run starts, as sentences."""
    found = []
    if ignored := ignored_settings(config):
        verb = "has" if len(ignored) == 1 else "have"
        found.append(f"{', '.join(ignored)} {verb} no effect under {config.objective}.")
    if config.objective == "cal_dpo" and config.beta < LEAST_CAL_BETA:
        found.append(
            f"cal_dpo with beta {config.beta:g} pulls each response's change towards "
            f"{1 / (2 * config.beta):,.0f} nats, from which training diverges: use "
            f"{LEAST_CAL_BETA:g} or more."
        )
    return found
