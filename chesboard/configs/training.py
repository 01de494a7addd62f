"""Training runs."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from chesboard.configs.base import Config, ModelConfig
from chesboard.configs.optimizer import OptimizerConfig, Scheduler
from chesboard.configs.probes import GroupName, LedgerPositions, ProbesConfig, check_opposites
from chesboard.configs.selection import Selection
from chesboard.configs.weighting import PairWeights, RefreshFilter


class LoraConfig(Config):
    """Low-rank adapters (LoRA); the reference is the model with its adapters disabled."""

    rank: int = Field(16, ge=1, le=512, description="Rank of the adapters.")
    alpha: float = Field(32.0, gt=0, description="Scale: adapters are multiplied by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapters' input.")
    target_modules: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="Layers that get adapters."
    )


class TrainConfig(OptimizerConfig, ModelConfig):
    """Preference training with probes and displacement measurement."""

    reward_calibration: bool = Field(
        False,
        description="Rescale what each step pushes up and down so that neither response is dragged "
        "along by the other, as far as the gradients at the output head tell (arXiv 2604.18239); "
        "the loss keeps its value.",
    )
    extend_sft_epochs: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Epochs of cross-entropy on both responses before the objective (extended "
        "fine-tuning, arXiv 2407.10490). The model at their end is the objective's reference.",
    )
    pair_weights: PairWeights | None = Field(
        None, description="Weigh each pair's loss by a measure of a score run. Default: all alike."
    )
    refresh_filter: RefreshFilter | None = Field(
        None,
        description="Drop pairs whose preferred response the model has come to surpass, before "
        "each epoch of the objective (filtered DPO). Default: all pairs in every epoch.",
    )
    scheduler: Scheduler = Field("constant", description="Learning-rate schedule after warm-up.")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    max_grad_norm: float | None = Field(
        None, gt=0, description="Maximum gradient norm for clipping; default: no clipping."
    )
    batch_size: int = Field(8, ge=1, le=4096, description="Pairs in one forward and backward pass.")
    gradient_accumulation: int = Field(
        1, ge=1, le=4096, description="Batches accumulated before an optimizer step."
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Keep the input of each decoder layer only and compute the layer once more in "
        "the backward pass: the same step in less memory and about a third more time.",
    )
    epochs: int = Field(1, ge=1, le=10_000, description="Passes over the pairs.")
    max_steps: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="Stop after this many optimizer steps of the objective.",
    )
    shuffle: bool = Field(True, description="Shuffle the pairs in each epoch.")
    seed: int = Field(
        0,
        ge=0,
        lt=2**32,
        description="Seed of the pairs' order and of the adapters' initialization.",
    )
    lora: LoraConfig | None = Field(
        None, description="Train low-rank adapters only; default: all weights."
    )
    probes: ProbesConfig = Field(default_factory=ProbesConfig, description="What to probe.")
    probe_every: int = Field(
        10,
        ge=1,
        description="Steps between probe measurements; the first and the last step are included.",
    )
    ledger_top: int = Field(
        10, ge=1, le=100, description="Number of gainers and of losers in a ledger."
    )
    ledger_positions: LedgerPositions | None = Field(
        None,
        description="Positions with a ledger besides the fork: {preferred: [0, 1], dispreferred: "
        "'all'}, counted from the response's first token; 'all' means the first 32. Default: "
        "the fork alone.",
    )
    answer_every: int | None = Field(
        None,
        ge=1,
        description="Steps between greedy generations from each probe's prompt (first and last "
        "step included), which show displacement as text. Default: no generation.",
    )
    answer_tokens: int = Field(
        48, ge=1, le=1024, description="Maximum length of a generation, in tokens."
    )
    measure_displacement: bool = Field(
        True,
        description="After the last step, compute the log-probabilities of all trained pairs again "
        "to measure how far each was displaced.",
    )
    token_groups: dict[str, list[str]] = Field(
        default_factory=dict,
        max_length=32,
        description="Named sets of tokens whose probability mass is summed, e.g. affirmative: Yes, "
        "Sure.",
    )
    opposite_groups: list[tuple[GroupName, GroupName]] = Field(
        default_factory=list,
        max_length=64,
        description="Pairs of token groups that mean the opposite of each other, e.g. affirmative "
        "and negative. Where a preferred response of one loses probability to the other, the "
        "displacement is catastrophic. Groups are opposite only if named here.",
    )
    save_model: bool = Field(
        True,
        description="Keep the trained model, so that it can be downloaded and other runs can use "
        "it. Off: its measurements alone are kept.",
    )
    selection: Selection = Field(
        default_factory=Selection, description="The pairs of the dataset to train on."
    )
    forecast_run: int | None = Field(
        None,
        ge=1,
        lt=2**63,
        description="The score run by which pairs or coefficients were chosen, over the same "
        "dataset under the same model and limits. It changes nothing in training: its forecast is "
        "held against what was measured. Default: the newest such run.",
    )
    checkpoint_every: int | None = Field(
        None,
        ge=1,
        description="Steps between checkpoints, from which a run resumes after its worker was "
        "lost. Default: an interval at which checkpoints take about 2 % of the time.",
    )

    @field_validator("reward_calibration", "extend_sft_epochs")
    @classmethod
    def _of_preferences(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("objective") == "cross_entropy":
            raise ValueError("needs an objective with preferences; cross_entropy has none")
        return value

    @field_validator("opposite_groups", mode="after")
    @classmethod
    def _opposites_are_groups(
        cls, pairs: list[tuple[str, str]], info: ValidationInfo
    ) -> list[tuple[str, str]]:
        return check_opposites(pairs, info.data.get("token_groups", {}))
