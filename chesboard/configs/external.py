"""The configuration of runs that are trained elsewhere: what their trainers tell."""

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from chesboard.configs.base import Config
from chesboard.configs.probes import GroupName, check_opposites

MAX_EXTERNAL_PROBES = 64
MAX_TOKENS = 131_072
"""Of a response that an external run watches."""


class ExternalProbe(Config):
    """A pair that an external run watches, as its trainer reads it."""

    pair: int = Field(ge=0, lt=2**31, description="Its ordinal in the dataset that is trained on.")
    prompt: str = Field(max_length=1_000_000, description="The prompt as the model reads it.")
    preferred_tokens: list[str] = Field(
        min_length=1, max_length=MAX_TOKENS, description="Texts of the tokens, end token included."
    )
    dispreferred_tokens: list[str] = Field(min_length=1, max_length=MAX_TOKENS)
    fork_position: int = Field(
        ge=0, lt=2**31, description="Index of the first response token that differs."
    )
    preferred_ids: list[int] = Field(default_factory=list, max_length=MAX_TOKENS)
    dispreferred_ids: list[int] = Field(default_factory=list, max_length=MAX_TOKENS)
    name: str | None = Field(None, min_length=1, max_length=100, description="Label on the page.")


class ExternalConfig(BaseModel):
    """What a trainer outside of this server tells of its run. Settings that are not listed are
    kept as they are."""

    model_config = ConfigDict(extra="allow")

    trainer: str = Field(
        min_length=1, max_length=100, description="What trains, for example trl.DPOTrainer."
    )
    versions: dict[str, str] = Field(
        default_factory=dict, max_length=50, description="Versions of its packages by name."
    )
    model: str | None = Field(None, max_length=500, description="Name of the model it trains.")
    objective: str = Field(
        "dpo",
        min_length=1,
        max_length=100,
        description="Its loss. cross_entropy: without a margin, so that nothing is displaced.",
    )
    beta: float | None = Field(None, allow_inf_nan=False, description="KL coefficient.")
    learning_rate: float | None = Field(None, allow_inf_nan=False)
    world_size: int | None = Field(None, ge=1, lt=2**31, description="Number of processes.")
    max_steps: int | None = Field(None, ge=0, lt=2**31, description="Optimizer steps it will take.")
    probe_every: int | None = Field(None, ge=1, lt=2**31, description="Steps between probes.")
    probes: list[ExternalProbe] = Field(
        default_factory=list, max_length=MAX_EXTERNAL_PROBES, description="The pairs it watches."
    )
    token_groups: dict[str, list[str]] = Field(
        default_factory=dict, max_length=32, description="As in a train config."
    )
    opposite_groups: list[tuple[GroupName, GroupName]] = Field(
        default_factory=list,
        max_length=64,
        description="Pairs of token groups that mean the opposite of each other.",
    )

    @field_validator("opposite_groups", mode="after")
    @classmethod
    def _opposites_are_groups(
        cls, pairs: list[tuple[str, str]], info: ValidationInfo
    ) -> list[tuple[str, str]]:
        return check_opposites(pairs, info.data.get("token_groups", {}))
