"""The configurations of runs: fields, bounds and defaults, validated by Pydantic.

Defaults are the paper's (arXiv 2410.08847) where it has one. The descriptions are shown in the
forms and in the OpenAPI document. Log-probabilities are sums over
the response in nats unless `length_normalize` divides them by the number of response tokens.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chesboard.measures.registry import MeasureName

Objective = Literal["dpo", "ipo", "slic", "simpo", "dpop", "cross_entropy"]
Optimizer = Literal["adamw", "rmsprop", "sgd"]
Scheduler = Literal["constant", "linear", "cosine"]

DEFAULT_LEARNING_RATES: dict[str, float] = {
    "adamw": 1e-6,  # TRL's default for DPO
    "rmsprop": 1e-7,  # the paper's single-prompt runs (Section 3)
    "sgd": 1e-4,
}


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelConfig(_Config):
    """The model, its precision and device, and the limits on its input."""

    model: str = Field(
        "smollm2-135m-instruct",
        min_length=1,
        description="A name from GET /models: a folder or GGUF file in the models folder, "
        "'run:ID' for the result of a finished training run, or a hub name.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision of the forward pass. auto: float32 on a CPU, bfloat16 on a GPU. "
        "Training keeps float32 weights either way and computes in this precision. A CPU without "
        "bfloat16 instructions computes in float32; the run then carries a message.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto: the GPU if there is one, else the CPU.",
    )
    max_prompt_tokens: int = Field(
        1024, ge=1, le=131_072, description="Longer prompts are truncated from the left."
    )
    max_response_tokens: int = Field(
        1024, ge=1, le=131_072, description="Longer responses are truncated from the right."
    )
    batch_tokens: int = Field(
        4096,
        ge=16,
        le=4_194_304,
        description="Token budget of one forward pass: pairs of similar length share a pass until "
        "it is full. Affects speed and memory, not the results.",
    )


class ScoreConfig(ModelConfig):
    """CHES and the other measures of every pair of a dataset (arXiv 2410.08847, Section 5)."""


class Turn(_Config):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


Word = Annotated[str, Field(min_length=1, max_length=100)]


class PromptProbe(_Config):
    """A free prompt, probed at the token that follows it."""

    prompt: str | list[Turn] = Field(
        min_length=1,
        description="Text, or chat messages; rendered by the model's chat template.",
    )
    watch: list[Word] = Field(
        default_factory=list,
        max_length=16,
        description="Words whose probability is recorded. Each must be one token of the model.",
    )
    name: str | None = Field(None, min_length=1, max_length=100, description="Label on the page.")


class LedgerPositions(_Config):
    """Response positions, counted from 0, with a mass ledger of their own besides the fork's.

    "all": the first 32 positions of a response.
    """

    preferred: list[Annotated[int, Field(ge=0, le=131_071)]] | Literal["all"] = Field(
        default_factory=list, max_length=128, description="Positions in the preferred response."
    )
    dispreferred: list[Annotated[int, Field(ge=0, le=131_071)]] | Literal["all"] = Field(
        default_factory=list, max_length=128, description="Positions in the dispreferred response."
    )


class ProbesConfig(_Config):
    """What a training run probes: pairs, named or chosen by a strategy, and free prompts."""

    pairs: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, max_length=64, description="Ordinals of the pairs to probe."
    )
    strategy: Literal["first", "random", "highest_ches"] = Field(
        "first", description="How pairs are chosen where none are named."
    )
    count: int = Field(4, ge=0, le=64, description="Number of pairs to choose.")
    prompts: list[PromptProbe] = Field(
        default_factory=list,
        max_length=16,
        description="Free prompts, each with the words to record.",
    )


Verdict = Literal["keep", "drop", "fix", "unsure"]
"""A reviewer's verdict on a pair."""


class MeasureRule(_Config):
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


class Rules(_Config):
    """Selects the pairs of the dataset that pass every rule. Without rules: all pairs."""

    pairs: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="Only these pairs (ordinals)."
    )
    exclude_flagged: bool = Field(False, description="Exclude flagged pairs.")
    exclude_verdicts: list[Verdict] = Field(
        default_factory=list, description="Exclude pairs with one of these verdicts."
    )
    only_verdicts: list[Verdict] = Field(
        default_factory=list, description="Only pairs with one of these verdicts."
    )
    measures: list[MeasureRule] = Field(
        default_factory=list,
        max_length=8,
        description="Only pairs at one end of a measure, for example the lowest 5 % of ln_ches.",
    )
    complement: bool = Field(
        False, description="Invert the rules above: select the pairs that they exclude."
    )


class RandomSubset(_Config):
    """A random subset. The same seed draws the same pairs; a smaller count draws a part of them."""

    count: int | None = Field(None, ge=1, description="Number of pairs.")
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
    limit: int | None = Field(None, ge=1, description="At most this many pairs, the first ones.")


class LoraConfig(_Config):
    """Low-rank adapters (LoRA); the reference is the model with its adapters disabled."""

    rank: int = Field(16, ge=1, le=512, description="Rank of the adapters.")
    alpha: float = Field(32.0, gt=0, description="Scale: adapters are multiplied by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapters' input.")
    target_modules: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="Layers that get adapters."
    )


class TrainConfig(ModelConfig):
    """Preference training with probes and displacement measurement."""

    objective: Objective = Field(
        "dpo",
        description="dpo: -log sigmoid(beta m), m = change of log p(y+) minus change of log p(y-) "
        "against the reference; ipo: (m - 1/(2 beta))^2; slic: max(0, delta - beta m); "
        "simpo: -log sigmoid(beta (log p(y+)/n+ - log p(y-)/n-) - gamma); dpop: -log sigmoid("
        "beta (m - lambda max(0, -change of log p(y+)))); cross_entropy: -log p(y+).",
    )
    beta: float = Field(0.1, gt=0, le=100, description="KL coefficient.")
    slic_delta: float = Field(1.0, ge=0, description="SLiC's delta: the target margin.")
    simpo_gamma: float = Field(0.5, ge=0, description="SimPO's gamma: the target reward margin.")
    dpop_lambda: float = Field(
        5.0, ge=0, description="DPOP's lambda: weight of the penalty on a falling log p(y+), nats."
    )
    sft_coef: float = Field(0.0, ge=0, description="Adds sft_coef * (-log p(y+)) to the loss.")
    length_normalize: bool = Field(
        False,
        description="Divide log-probabilities by the number of response tokens in ipo, in "
        "cross_entropy and in the sft term (as TRL does); off: sums over the response, as in the "
        "paper.",
    )
    optimizer: Optimizer = Field("adamw", description="The paper uses rmsprop.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="Default: 1e-6 for adamw, 1e-7 for rmsprop, 1e-4 for sgd.",
        validate_default=True,
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="Weight decay; decoupled for adamw.")
    scheduler: Scheduler = Field("constant", description="Learning-rate schedule after warm-up.")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    max_grad_norm: float | None = Field(
        None, gt=0, description="Maximum gradient norm for clipping; default: no clipping."
    )
    batch_size: int = Field(8, ge=1, le=4096, description="Pairs in one forward and backward pass.")
    gradient_accumulation: int = Field(
        1, ge=1, le=4096, description="Batches accumulated before an optimizer step."
    )
    epochs: int = Field(1, ge=1, le=10_000, description="Passes over the pairs.")
    max_steps: int | None = Field(
        None, ge=1, le=10_000_000, description="Stop after this many optimizer steps."
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
    selection: Selection = Field(
        default_factory=Selection, description="The pairs of the dataset to train on."
    )
    checkpoint_every: int | None = Field(
        None,
        ge=1,
        description="Steps between checkpoints, from which a run resumes after its worker was "
        "lost. Default: an interval at which checkpoints take about 2 % of the time.",
    )

    @model_validator(mode="after")
    def _fill_learning_rate(self) -> Self:
        if self.learning_rate is None:
            self.learning_rate = DEFAULT_LEARNING_RATES[self.optimizer]
        return self


class EvaluateConfig(ModelConfig):
    """The log-probabilities of every pair under a model, without the other measures."""


CONFIGS: dict[str, type[ModelConfig]] = {
    "score": ScoreConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
}
