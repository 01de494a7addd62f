"""JSON shapes of judgments, their agreement, and the pairs that judged answers make."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.core.text import STORABLE_PATTERN, storable
from chesboard.judging.pairing import Prefer, Ties
from chesboard.pairs import Prompt

VerdictName = Literal["positive", "negative", "none"]


class JudgmentRow(BaseModel):
    """A judge's verdict on one answer."""

    pair: int = Field(description="The first pair with the answered prompt.")
    sample: int = Field(description="Counts the answers to a prompt, from 0.")
    verdict: bool | None = Field(
        description="Whether the answer has what the judge looks for; null: no verdict was had, "
        "and `reason` says why, or the judge gives scores alone."
    )
    score: float | None = Field(description="The judge's own number, if it gives one.")
    reason: str | None
    answer: str
    ended: bool = Field(description="False: the answer was cut at the limit of tokens.")


class JudgmentOut(JudgmentRow):
    prompt: Prompt


class JudgmentPage(BaseModel):
    total: int = Field(description="Answers that pass the filters.")
    items: list[JudgmentOut]


class PairCounts(BaseModel):
    """How the prompts' answers were judged, two or more to a prompt."""

    different: int = Field(description="Prompts with a positive and a negative answer.")
    both_positive: int = Field(description="Prompts whose answers are all judged positively.")
    both_negative: int = Field(description="Prompts whose answers are all judged negatively.")
    by_score: int = Field(description="Prompts whose answers have scores and no verdicts.")
    others: int = Field(description="Prompts with fewer than two judged answers.")


class JudgmentSummary(BaseModel):
    """A judge's verdicts so far."""

    answers: int = Field(description="Answers of the generate run.")
    judged: int = Field(description="Of which the judge has seen so many.")
    positive: int
    negative: int
    unjudged: int = Field(description="Seen, without a verdict.")
    rate: float | None = Field(description="Positive verdicts among all verdicts.")
    low: float | None = Field(description="95 % Wilson interval of the rate.")
    high: float | None
    mean_score: float | None = Field(description="Mean of the scores; null: there are none.")
    prompts: PairCounts
    others: list["AgreementOut"] = Field(
        description="Agreement with each other judge of the same answers."
    )


class JudgeRun(BaseModel):
    run_id: int
    name: str
    judged_by: str = Field(description="The judge: a model's name, or 'keywords'.")


class AgreementOut(BaseModel):
    """Agreement of two judges, on the answers that both gave a verdict on."""

    first: JudgeRun
    second: JudgeRun
    compared: int
    both_positive: int
    first_only: int = Field(description="Positive to the first judge alone.")
    second_only: int
    both_negative: int
    unjudged: int = Field(description="Seen by both, without a verdict of at least one.")
    raw: float | None = Field(description="Share of the same verdicts.")
    kappa: float | None = Field(
        description="Cohen's kappa: agreement beyond chance. Null where it is not defined: both "
        "judges give every answer the same one verdict."
    )


class AgreementList(BaseModel):
    items: list[AgreementOut] = Field(description="One for each two of the runs.")


class PairsRequest(BaseModel):
    """The body of `POST /runs/ID/pairs`."""

    model_config = ConfigDict(extra="forbid")

    name: (
        Annotated[
            str,
            Field(min_length=1, max_length=200, pattern=STORABLE_PATTERN),
            AfterValidator(storable),
        ]
        | None
    ) = Field(None, description="Name of the dataset. Default: made from the run's.")
    prefer: Prefer = Field(
        "positive",
        description="Which verdict is preferred. positive: the answers that have what the judge "
        "looks for, or a higher score; negative: the others.",
    )
    ties: Ties = Field(
        "random",
        description="Prompts whose answers have the same verdict. random: two of them in an order "
        "that is drawn; skip: no pair; score: by the judge's scores, and so where there are no "
        "verdicts at all.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the order of ties.")


class PairsMade(BaseModel):
    """The dataset that judged answers made, and how."""

    dataset_id: int
    name: str
    pairs: int = Field(description="Stored pairs.")
    rejected: int = Field(
        description="Pairs that were not stored, for example with an empty answer; the dataset "
        "lists them with the reason."
    )
    prompts: int = Field(description="Prompts that were looked at.")
    different: int = Field(description="Pairs of a positive and a negative answer.")
    both_positive: int = Field(description="Pairs of two positive answers.")
    both_negative: int
    by_score: int = Field(description="Pairs of answers without verdicts.")
    left_out: dict[str, int] = Field(
        description="Prompts without a pair, by reason: single (fewer than two answers), unjudged, "
        "same_text, tied (the same score), skipped."
    )
