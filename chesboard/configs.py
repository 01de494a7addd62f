"""What a run is asked to do. Bounds are checked here; defaults are the paper's where it has one.

The descriptions are shown by the forms and by the OpenAPI page. Log-probabilities are sums over
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
    """Which model to load and how to cut its input."""

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
        "instructions for bfloat16 computes in float32, and the run says so.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto takes the GPU where there is one.",
    )
    max_prompt_tokens: int = Field(
        1024, ge=1, le=131_072, description="Longer prompts are cut at the left."
    )
    max_response_tokens: int = Field(
        1024, ge=1, le=131_072, description="Longer responses are cut at the right."
    )
    batch_tokens: int = Field(
        4096,
        ge=16,
        le=4_194_304,
        description="Token budget of one forward pass: pairs of like length share a pass until "
        "it is full. Changes the speed and the memory used, never the result.",
    )


class ScoreConfig(ModelConfig):
    """CHES and the other measures of every pair of a dataset (arXiv 2410.08847, Section 5)."""


class Turn(_Config):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


Word = Annotated[str, Field(min_length=1, max_length=100)]


class PromptProbe(_Config):
    """A prompt of one's own, watched at the token that follows it."""

    prompt: str | list[Turn] = Field(
        min_length=1,
        description="Text, or chat messages; the model's chat template is put around it.",
    )
    watch: list[Word] = Field(
        default_factory=list,
        max_length=16,
        description="Words whose probability is followed. Each must be one token for the model.",
    )
    name: str | None = Field(
        None, min_length=1, max_length=100, description="How the page calls it."
    )


class LedgerPositions(_Config):
    """Response positions, counted from 0, at which a ledger is kept besides the fork's.

    "all": the first 32 of a response.
    """

    preferred: list[Annotated[int, Field(ge=0, le=131_071)]] | Literal["all"] = Field(
        default_factory=list, max_length=128, description="Positions in the preferred response."
    )
    dispreferred: list[Annotated[int, Field(ge=0, le=131_071)]] | Literal["all"] = Field(
        default_factory=list, max_length=128, description="Positions in the dispreferred response."
    )


class ProbesConfig(_Config):
    """What a training run watches: named pairs, or some chosen by a strategy, and free prompts."""

    pairs: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, max_length=64, description="Ordinals of the pairs to watch."
    )
    strategy: Literal["first", "random", "highest_ches"] = Field(
        "first", description="How to choose when no pairs are named."
    )
    count: int = Field(4, ge=0, le=64, description="How many to choose.")
    prompts: list[PromptProbe] = Field(
        default_factory=list,
        max_length=16,
        description="Prompts of your own, each with words to watch.",
    )


Verdict = Literal["keep", "drop", "fix", "unsure"]
"""What a reviewer says of a pair."""


class MeasureRule(_Config):
    """Pairs at one end of a measure's values in a score run. A pair without a value is not kept."""

    score_run: int = Field(description="A finished score run over the dataset.", ge=1, lt=2**63)
    measure: MeasureName = Field("ln_ches", description="The paper filters by ln_ches (Section 6).")
    keep: Literal["lowest", "highest"] = Field("lowest", description="Which end is kept.")
    fraction: float | None = Field(
        None, gt=0, le=1, description="Share of the scored pairs, rounded up to whole pairs."
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
    """Which pairs of the dataset are meant: those that every rule leaves. Empty: all of them."""

    pairs: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="Only these pairs (ordinals)."
    )
    exclude_flagged: bool = Field(False, description="Leave out pairs that are flagged.")
    exclude_verdicts: list[Verdict] = Field(
        default_factory=list, description="Leave out pairs that a reviewer gave one of these."
    )
    only_verdicts: list[Verdict] = Field(
        default_factory=list, description="Only pairs that a reviewer gave one of these."
    )
    measures: list[MeasureRule] = Field(
        default_factory=list,
        max_length=8,
        description="Only pairs at one end of a measure, for example the lowest 5 % of ln_ches.",
    )
    complement: bool = Field(
        False, description="Take the pairs that the rules above leave out, in place of the others."
    )


class RandomSubset(_Config):
    """Some pairs by chance. The same seed draws the same ones, and of fewer a part of those."""

    count: int | None = Field(None, ge=1, description="So many pairs.")
    fraction: float | None = Field(None, gt=0, le=1, description="Share of the pairs, rounded up.")
    same_size_as: Rules | None = Field(
        None, description="As many as these rules leave: a control for filtering by them."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Another seed draws other pairs.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.count, self.fraction, self.same_size_as)) != 1:
            raise ValueError("give one of count, fraction and same_size_as")
        return self


class Selection(Rules):
    """Which pairs of the dataset take part: by rules, then by chance, then the first so many."""

    random: RandomSubset | None = Field(
        None, description="Of the pairs that the rules leave, some by chance."
    )
    limit: int | None = Field(None, ge=1, description="At most this many, in order.")


class LoraConfig(_Config):
    """Low-rank adapters; the reference is the model with adapters off."""

    rank: int = Field(16, ge=1, le=512, description="Rank of the adapters.")
    alpha: float = Field(32.0, gt=0, description="Scale: adapters are multiplied by alpha/rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters.")
    target_modules: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="Which layers get adapters."
    )


class TrainConfig(ModelConfig):
    """Preference training with measurement."""

    objective: Objective = Field(
        "dpo",
        description="dpo: -log sigmoid(beta m), m = change of log p(y+) minus change of log p(y-) "
        "against the reference; ipo: (m - 1/(2 beta))^2; slic: max(0, delta - beta m); "
        "simpo: -log sigmoid(beta (log p(y+)/n+ - log p(y-)/n-) - gamma); dpop: -log sigmoid("
        "beta (m - lambda max(0, -change of log p(y+)))); cross_entropy: -log p(y+).",
    )
    beta: float = Field(0.1, gt=0, le=100, description="KL coefficient.")
    slic_delta: float = Field(1.0, ge=0, description="SLiC's delta: the margin asked for.")
    simpo_gamma: float = Field(0.5, ge=0, description="SimPO's gamma: the target reward margin.")
    dpop_lambda: float = Field(
        5.0, ge=0, description="DPOP's lambda: weight of the penalty on a falling log p(y+), nats."
    )
    sft_coef: float = Field(0.0, ge=0, description="Adds sft_coef * (-log p(y+)) to the loss.")
    length_normalize: bool = Field(
        False,
        description="Divide log-probabilities by the response's tokens in ipo, in cross_entropy "
        "and in the sft term (as TRL does); off: sums over the response, as in the paper.",
    )
    optimizer: Optimizer = Field("adamw", description="rmsprop is the paper's.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="Left out: 1e-6 for adamw, 1e-7 for rmsprop, 1e-4 for sgd.",
        validate_default=True,
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="Decoupled for adamw.")
    scheduler: Scheduler = Field("constant", description="How the learning rate goes on.")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    max_grad_norm: float | None = Field(
        None, gt=0, description="Clip the gradient's norm to this; left out: no clipping."
    )
    batch_size: int = Field(8, ge=1, le=4096, description="Pairs in one forward and backward.")
    gradient_accumulation: int = Field(
        1, ge=1, le=4096, description="Batches added up before an optimizer step."
    )
    epochs: int = Field(1, ge=1, le=10_000, description="Passes over the pairs.")
    max_steps: int | None = Field(
        None, ge=1, le=10_000_000, description="Stop after this many optimizer steps."
    )
    shuffle: bool = Field(True, description="A new order of the pairs each epoch.")
    seed: int = Field(0, ge=0, lt=2**32, description="Order of the pairs and adapters' start.")
    lora: LoraConfig | None = Field(None, description="Train adapters only; empty: all weights.")
    probes: ProbesConfig = Field(default_factory=ProbesConfig, description="Pairs to watch.")
    probe_every: int = Field(
        10, ge=1, description="Look at the probes every this many steps (and first and last)."
    )
    ledger_top: int = Field(
        10, ge=1, le=100, description="How many gainers and losers a ledger lists."
    )
    ledger_positions: LedgerPositions | None = Field(
        None,
        description="Where to keep ledgers besides the fork: {preferred: [0, 1], dispreferred: "
        "'all'}, counted from the response's first token; 'all' means the first 32. Left out: "
        "the fork alone.",
    )
    answer_every: int | None = Field(
        None,
        ge=1,
        description="Let the model answer each probe's prompt greedily every this many steps (and "
        "first and last), so that a change of mind is seen as text. Left out: never.",
    )
    answer_tokens: int = Field(48, ge=1, le=1024, description="Longest such answer, in tokens.")
    measure_displacement: bool = Field(
        True,
        description="After the last step, measure the log-probabilities of all trained pairs once "
        "more: how far each was displaced.",
    )
    token_groups: dict[str, list[str]] = Field(
        default_factory=dict,
        max_length=32,
        description="Named sets of tokens whose mass is summed, e.g. affirmative: Yes, Sure.",
    )
    selection: Selection = Field(
        default_factory=Selection, description="Which pairs of the dataset to train on."
    )
    checkpoint_every: int | None = Field(
        None,
        ge=1,
        description="Steps between checkpoints, from which a run goes on after its worker was "
        "lost. Left out: as often as costs about a fiftieth of the time.",
    )

    @model_validator(mode="after")
    def _fill_learning_rate(self) -> Self:
        if self.learning_rate is None:
            self.learning_rate = DEFAULT_LEARNING_RATES[self.optimizer]
        return self


class EvaluateConfig(ModelConfig):
    """Log-probabilities of every pair under one model, without CHES."""


CONFIGS: dict[str, type[ModelConfig]] = {
    "score": ScoreConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
}
