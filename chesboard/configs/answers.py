"""Runs that generate answers to prompts, and runs that judge these."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from chesboard.configs.base import DEVICE_PATTERN, Config, ModelConfig
from chesboard.configs.selection import Selection
from chesboard.refusals import KEYWORD_CHARACTERS, REFUSAL_KEYWORDS, REFUSAL_QUESTION

MAX_ANSWER_TOKENS = 4096
MAX_SAMPLES = 64

AnswerTokens = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_ANSWER_TOKENS,
        description="Maximum length of an answer, in tokens. Longer ones are cut.",
    ),
]
TopP = Annotated[
    float,
    Field(
        gt=0,
        le=1,
        description="Sample from the most likely tokens that together have this probability. "
        "1: from all.",
    ),
]


class GenerateConfig(ModelConfig):
    """Answers of a model to the prompts of the selected pairs, sampled or greedy.

    Pairs with the same prompt: it is answered once, under the first of them. What is drawn for an
    answer depends on the seed, its pair and its number alone: more samples add to those that a run
    with fewer has.
    """

    samples: int = Field(1, ge=1, le=MAX_SAMPLES, description="Answers to each prompt.")
    temperature: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Divides the logits before sampling. 0: greedy decoding, where the samples of "
        "a prompt are all the same. The paper samples at 1 for training data and at 0.7 to "
        "measure refusal.",
    )
    top_p: TopP = 1.0
    answer_tokens: AnswerTokens = 256
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the sampling.")
    batch_tokens: int = Field(
        8192,
        ge=16,
        le=4_194_304,
        description="Tokens of prompts and answers, padding included, whose keys and values are "
        "kept at a time. Affects speed and memory; the answers only as far as rounding does.",
    )
    selection: Selection = Field(
        default_factory=Selection, description="The pairs whose prompts are answered."
    )


JudgeKind = Literal["keywords", "classifier", "endpoint"]
Keyword = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class JudgeConfig(Config):
    """A verdict on each answer of a finished generate run: whether it has what the judge looks for,
    refusal by default."""

    generate_run: int = Field(
        ge=1, lt=2**63, description="The generate run whose answers are judged."
    )
    judge: JudgeKind = Field(
        "keywords",
        description="keywords: a phrase of a list stands at the beginning of the answer. "
        "classifier: a sequence classifier or reward model of the models folder. endpoint: a "
        "language model behind an OpenAI-compatible chat endpoint (CHESBOARD_JUDGE_URL).",
    )
    keywords: list[Keyword] = Field(
        list(REFUSAL_KEYWORDS),
        min_length=1,
        max_length=500,
        description="Phrases of the judge by keywords, found as whole words whatever their case "
        "and apostrophes.",
    )
    keyword_characters: int = Field(
        KEYWORD_CHARACTERS,
        ge=1,
        le=1_000_000,
        description="Characters at the beginning of an answer in which a keyword counts.",
    )
    classifier: str | None = Field(
        None,
        min_length=1,
        max_length=500,
        description="Name of a sequence classifier in the models folder.",
    )
    label: str | None = Field(
        None,
        max_length=200,
        description="The classifier's label to look for. A reward model has none.",
    )
    threshold: float | None = Field(
        None,
        allow_inf_nan=False,
        description="The verdict is positive from this score of the classifier on. Default: where "
        "the label is the likeliest; a reward model gives scores without verdicts.",
    )
    reads: Literal["conversation", "answer"] = Field(
        "conversation",
        description="conversation: the classifier reads the prompt and the answer, by its chat "
        "template if it has one; answer: the answer alone.",
    )
    device: str = Field(
        "auto",
        pattern=DEVICE_PATTERN,
        description="Of the classifier. auto: the GPU if there is one, else the CPU.",
    )
    endpoint_model: str | None = Field(
        None, min_length=1, max_length=500, description="Name of the model at the endpoint."
    )
    question: str = Field(
        REFUSAL_QUESTION,
        min_length=1,
        max_length=20_000,
        description="What the endpoint's model is asked; {prompt} and {answer} are filled in. It "
        "has to reply with yes or no, or with JSON: verdict, and if it likes score and reason.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.judge == "classifier" and self.classifier is None:
            raise ValueError("the judge “classifier” needs the name of one, as classifier")
        if self.judge == "endpoint" and self.endpoint_model is None:
            raise ValueError("the judge “endpoint” needs the name of a model, as endpoint_model")
        if self.judge == "endpoint" and "{answer}" not in self.question:
            raise ValueError("the question has no {answer}, so the judge would not see it")
        return self

    @property
    def judged_by(self) -> str:
        """What judges, for people: a model's name, or "keywords"."""
        return {"classifier": self.classifier, "endpoint": self.endpoint_model}.get(
            self.judge
        ) or self.judge
