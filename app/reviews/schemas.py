"""Verdicts, their history and the queue of pairs to review, as the API and the pages show them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.core.text import storable
from app.scores.schemas import Measure
from app.store.reviews import Review, ReviewChange
from chesboard.configs import Verdict
from chesboard.pairs import Prompt

MAX_NOTE = 4000
MAX_NAMED = 50_000


def _stripped(text: str) -> str:
    return storable(text).strip()


Reviewer = Annotated[str, Field(max_length=80), AfterValidator(_stripped)]
Note = Annotated[str, Field(max_length=MAX_NOTE), AfterValidator(_stripped)]
Ordinal = Annotated[int, Field(ge=0, lt=2**31)]
Version = Annotated[int, Field(ge=0, lt=2**31)]

SORTS = (
    "pair",
    "ches",
    "ln_ches",
    "last_hidden_inner_product",
    "normalized_edit_distance",
    "preferred_logprob",
    "dispreferred_logprob",
    "displacement",
    "updated_at",
)
QueueSort = Annotated[str, Field(pattern=f"^-?({'|'.join(SORTS)})$")]
"""What the queue is sorted by; "-" in front sorts down. What has no value comes last."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReviewRequest(_Request):
    """A verdict on a pair."""

    verdict: Verdict
    note: Note | None = Field(None, description="Left out: the note stays as it is.")
    reviewer: Reviewer | None = Field(None, description="Who says so.")
    version: Version | None = Field(
        None,
        description="Of the verdict that was seen (0: none). Where another was given since, the "
        "answer is 409 with that one. Left out: only one's own verdict can be replaced.",
    )


class UndoRequest(_Request):
    reviewer: Reviewer | None = None
    version: Version | None = Field(None, description="As in a verdict: the one that was seen.")


class PairEdit(_Request):
    """New texts of a pair; what is left out stays. The former texts are kept as a version."""

    prompt: Prompt | None = None
    preferred: str | None = None
    dispreferred: str | None = None
    note: Note | None = None
    reviewer: Reviewer | None = None
    version: Annotated[int, Field(ge=1, lt=2**31)] = Field(
        description="Of the text that was edited. 409 where it was edited since."
    )


class QueueFilter(_Request):
    """Which pairs are meant; each condition narrows. Empty: all of the dataset."""

    verdict: list[Literal["none", Verdict]] = Field(
        default_factory=list, description="With one of these verdicts; 'none': not reviewed."
    )
    flagged: bool | None = Field(None, description="Whether it is flagged.")
    edited: bool | None = Field(None, description="Whether its text was edited.")
    disputed: bool | None = Field(None, description="Whether reviewers disagree.")
    displaced: bool | None = Field(
        None, description="Whether displacement_run displaced it (where that was measured)."
    )
    reviewer: Reviewer | None = Field(None, description="Whose verdict stands.")
    not_by: Reviewer | None = Field(None, description="On which this person gave no verdict yet.")
    pairs: list[Ordinal] | None = Field(None, max_length=MAX_NAMED, description="Only these.")
    measure: Measure | None = Field(None, description="What at_least and at_most speak of.")
    at_least: float | None = Field(None, allow_inf_nan=False)
    at_most: float | None = Field(None, allow_inf_nan=False)
    score_run: Annotated[int, Field(ge=1, lt=2**63)] | None = Field(
        None, description="Left out: the newest finished score run over the dataset."
    )
    displacement_run: Annotated[int, Field(ge=1, lt=2**63)] | None = Field(
        None, description="Left out: the newest training run that measured pairs."
    )


class QueueQuery(QueueFilter):
    sort: QueueSort = "pair"


class QueuePageQuery(QueueQuery):
    offset: Annotated[int, Field(ge=0, lt=2**63)] = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 20


class ReviewOut(BaseModel):
    """The present verdict on a pair; null where there is none."""

    model_config = ConfigDict(from_attributes=True)

    pair: int
    verdict: Verdict | None = None
    note: str | None = None
    reviewer: str | None = None
    version: int = Field(0, description="Counts the changes. Send it with the next one.")
    updated_at: datetime | None = None

    @classmethod
    def of(cls, pair: int, review: Review | None) -> "ReviewOut":
        return cls(pair=pair) if review is None else cls.model_validate(review)


class ReviewChangeOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    version: int
    action: Literal["set", "bulk", "edit", "clear", "undo"]
    verdict: Verdict | None = Field(description="What it was after this change.")
    note: str | None
    reviewer: str | None = Field(description="Who made the change.")
    pair_version: int = Field(description="Of the text that it was about.")
    batch_id: int | None = Field(description="The verdicts that were given together with it.")
    undone_by: int | None = Field(description="The version that took it back.")
    created_at: datetime

    @classmethod
    def of(cls, change: ReviewChange) -> "ReviewChangeOut":
        return cls.model_validate(change)


class PairVersionOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    version: int = Field(description="1 is the file's.")
    prompt: Prompt
    preferred: str
    dispreferred: str
    reviewer: str | None
    created_at: datetime | None


class History(BaseModel):
    """All that was said and done about a pair, the newest first."""

    pair: int
    items: list[ReviewChangeOut]
    texts: list[PairVersionOut] = Field(description="Empty where the text was never edited.")


class MeasureOut(BaseModel):
    value: float
    percentile: float = Field(description="0: the lowest of the score run, 100: the highest.")


class ScoreOfPair(BaseModel):
    """A pair's measures in a score run; what was not computed or is not finite is left out."""

    run_id: int
    measures: dict[Measure, MeasureOut]
    preferred_tokens: int
    dispreferred_tokens: int
    preferred_ends: list[int] = Field(description="Where each token ends, in characters.")
    dispreferred_ends: list[int]
    outdated: bool = Field(description="The text was edited since it was scored.")


class DisplacementOfPair(BaseModel):
    """What a training run did to a pair, in nats."""

    run_id: int
    preferred_change: float | None
    dispreferred_change: float | None
    displaced: bool = Field(
        description="The preferred response lost likelihood while the margin grew."
    )


class QueueItem(BaseModel):
    pair: int
    text_version: int = Field(description="1: as in the file. Send it with an edit.")
    prompt: Prompt
    preferred: str
    dispreferred: str
    meta: dict[str, Any]
    flagged: bool
    review: ReviewOut
    said: dict[str, Verdict] = Field(description="Each reviewer's own last verdict.")
    score: ScoreOfPair | None
    displacement: DisplacementOfPair | None


class QueuePage(BaseModel):
    total: int
    score_run: int | None = Field(description="Whose measures these are.")
    displacement_run: int | None
    items: list[QueueItem]


class QueueOrder(BaseModel):
    """All pairs that the filter leaves, in order: a page goes through them at its own pace."""

    total: int
    score_run: int | None
    displacement_run: int | None
    pairs: list[int]


class BulkRequest(_Request):
    """One verdict for every pair that a filter leaves."""

    filter: QueueFilter
    verdict: Verdict
    note: Note | None = Field(None, description="Left out: notes stay as they are.")
    reviewer: Reviewer | None = None
    expected_count: int = Field(
        ge=1, description="How many pairs the user was told of; 409 where there are more or fewer."
    )


class BatchOut(BaseModel):
    """Verdicts that were given at once."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    verdict: Verdict
    note: str | None
    reviewer: str | None
    filter: dict[str, Any]
    pairs: int = Field(description="How many were changed.")
    created_at: datetime
    undone_at: datetime | None


class BatchList(BaseModel):
    items: list[BatchOut]


class UndoneBatch(BaseModel):
    batch: BatchOut
    undone: int = Field(description="Pairs that have their former verdict again.")
    kept: int = Field(description="Pairs that were changed since, and keep that.")


class ReviewerCount(BaseModel):
    reviewer: str
    pairs: int = Field(description="On how many pairs this person has said something.")


class Agreement(BaseModel):
    """Two reviewers on the pairs that both gave a verdict."""

    reviewers: tuple[str, str]
    pairs: int
    agreed: int
    kappa: float | None = Field(
        description="Cohen's: 1 is full agreement, 0 what chance would do. null where both gave "
        "one verdict only, so that chance alone explains it."
    )


class ReviewProgress(BaseModel):
    pairs: int
    reviewed: int
    verdicts: dict[Verdict, int]
    flagged: int
    flagged_reviewed: int
    edited: int
    disputed: int
    reviewers: list[ReviewerCount]
    agreement: list[Agreement]
