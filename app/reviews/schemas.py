"""JSON shapes of verdicts, their history and the review queue."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.core.paging import Offset
from app.core.text import storable
from app.store.lookup import Id
from app.store.reviews import Review, ReviewChange
from chesboard.configs import Verdict
from chesboard.configs.base import Count, Ordinal
from chesboard.issues import IssueKind
from chesboard.measures.registry import MEASURE_NAMES, MeasureName
from chesboard.pairs import Prompt

MAX_NOTE = 4000
MAX_PAIRS = 50_000
"""Most pairs that a filter can name."""


def _stripped(text: str) -> str:
    return storable(text).strip()


Reviewer = Annotated[str, Field(max_length=80), AfterValidator(_stripped)]
Note = Annotated[str, Field(max_length=MAX_NOTE), AfterValidator(_stripped)]
Version = Annotated[int, Field(ge=0, lt=2**31)]

SORTS = ("pair", *MEASURE_NAMES, "displacement", "updated_at")
QueueSort = Annotated[str, Field(pattern=f"^-?({'|'.join(SORTS)})$")]
"""Sort key of the queue; a leading "-" sorts descending. Pairs without a value come last."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReviewRequest(_Request):
    """A verdict on a pair."""

    verdict: Verdict
    note: Note | None = Field(None, description="Default: the note is kept.")
    reviewer: Reviewer | None = Field(None, description="The reviewer's name.")
    version: Version | None = Field(
        None,
        description="Version of the verdict that was seen (0: none). If it changed since, the "
        "response is 409 with the current verdict. Default: only one's own verdict is replaced.",
    )


class UndoRequest(_Request):
    reviewer: Reviewer | None = None
    version: Version | None = Field(None, description="Version of the verdict that was seen.")


class PairEdit(_Request):
    """New texts of a pair; missing ones stay. The previous texts are kept as a version."""

    prompt: Prompt | None = None
    preferred: str | None = None
    dispreferred: str | None = None
    note: Note | None = None
    reviewer: Reviewer | None = None
    version: Annotated[int, Field(ge=1, lt=2**31)] = Field(
        description="Version of the text that was edited; 409 if it was edited since."
    )


class QueueFilter(_Request):
    """Conditions on pairs, all of which must hold. Empty: all pairs of the dataset."""

    verdict: list[Literal["none", Verdict]] = Field(
        default_factory=list, description="Its verdict is one of these; 'none': not reviewed."
    )
    issue: list[IssueKind] = Field(
        default_factory=list, description="It has one of these issues (GET /datasets/ID/doctor)."
    )
    flagged: bool | None = Field(None, description="Whether the pair is flagged.")
    edited: bool | None = Field(None, description="Whether its text was edited.")
    disputed: bool | None = Field(None, description="Whether reviewers disagree.")
    displaced: bool | None = Field(
        None, description="Whether displacement_run displaced it; only measured pairs match."
    )
    reviewer: Reviewer | None = Field(None, description="Whose verdict is the current one.")
    not_by: Reviewer | None = Field(None, description="Who has not given a verdict on it yet.")
    pairs: list[Ordinal] | None = Field(
        None, max_length=MAX_PAIRS, description="Ordinals of the pairs."
    )
    measure: MeasureName | None = Field(None, description="What at_least and at_most bound.")
    at_least: float | None = Field(
        None, allow_inf_nan=False, description="Lower bound of the measure, inclusive."
    )
    at_most: float | None = Field(
        None, allow_inf_nan=False, description="Upper bound of the measure, inclusive."
    )
    score_run: Id | None = Field(
        None, description="Default: the newest succeeded score run over the dataset."
    )
    displacement_run: Id | None = Field(
        None, description="Default: the newest training run over the dataset that measured pairs."
    )


class QueueQuery(QueueFilter):
    sort: QueueSort = "pair"


class QueuePageQuery(QueueQuery):
    offset: Offset = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 20


class ReviewOut(BaseModel):
    """The current verdict on a pair; null if there is none."""

    model_config = ConfigDict(from_attributes=True)

    pair: int
    verdict: Verdict | None = None
    note: str | None = None
    reviewer: str | None = None
    version: int = Field(0, description="Number of changes; send it with the next one.")
    updated_at: datetime | None = None

    @classmethod
    def of(cls, pair: int, review: Review | None) -> "ReviewOut":
        return cls(pair=pair) if review is None else cls.model_validate(review)


class ReviewChangeOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    version: int
    action: Literal["set", "bulk", "edit", "clear", "undo"]
    verdict: Verdict | None = Field(description="The verdict after this change.")
    note: str | None
    reviewer: str | None = Field(description="Who made the change.")
    pair_version: int = Field(description="Version of the text that it refers to.")
    batch_id: int | None = Field(description="The bulk verdict that it belongs to.")
    undone_by: int | None = Field(description="The version that undid it.")
    created_at: datetime

    @classmethod
    def of(cls, change: ReviewChange) -> "ReviewChangeOut":
        return cls.model_validate(change)


class PairVersionOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    version: int = Field(description="1 is the text of the file.")
    prompt: Prompt
    preferred: str
    dispreferred: str
    reviewer: str | None
    created_at: datetime | None


class DroppedOut(BaseModel):
    """A training run dropped the pair: the model's answer was no worse than its preferred
    response."""

    model_config = ConfigDict(from_attributes=True)

    run_id: int
    run_name: str
    epoch: int = Field(description="The first epoch without the pair, counted from 1.")
    text: str = Field(description="The model's answer before that epoch.")
    sample_reward: float
    preferred_reward: float


class History(BaseModel):
    """All changes of a pair's review and text, and the runs that dropped it, newest first."""

    pair: int
    items: list[ReviewChangeOut]
    texts: list[PairVersionOut] = Field(description="Empty if the text was never edited.")
    dropped: list[DroppedOut] = Field(
        description="By the filters (`refresh_filter`) of training runs."
    )


class MeasureOut(BaseModel):
    value: float
    percentile: float = Field(description="0: the lowest of the score run, 100: the highest.")


class ScoreOfPair(BaseModel):
    """A pair's measures in a score run, without missing and nonfinite ones."""

    run_id: int
    measures: dict[MeasureName, MeasureOut]
    preferred_tokens: int
    dispreferred_tokens: int
    preferred_ends: list[int] = Field(description="Offset of the end of each token, in characters.")
    dispreferred_ends: list[int]
    outdated: bool = Field(description="Whether the text was edited since.")


class DisplacementOfPair(BaseModel):
    """Changes of a pair's log-probabilities by a training run, in nats."""

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
    score_run: int | None = Field(description="The run of the measures.")
    displacement_run: int | None = Field(description="The run of the displacement.")
    items: list[QueueItem]


class QueueOrder(BaseModel):
    """The ordinals of all pairs that the filter matches, in the order of the queue."""

    total: int
    score_run: int | None
    displacement_run: int | None
    pairs: list[int]


class BulkRequest(_Request):
    """One verdict for every pair that a filter matches."""

    filter: QueueFilter
    verdict: Verdict
    note: Note | None = Field(None, description="Default: notes are kept.")
    reviewer: Reviewer | None = None
    expected_count: Count = Field(
        description="Number of pairs that the user confirmed; 409 if the filter matches more or "
        "fewer.",
    )


class BatchOut(BaseModel):
    """A bulk verdict."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    verdict: Verdict
    note: str | None
    reviewer: str | None
    filter: dict[str, Any]
    pairs: int = Field(description="Number of pairs that it changed.")
    created_at: datetime
    undone_at: datetime | None


class BatchList(BaseModel):
    items: list[BatchOut]


class UndoneBatch(BaseModel):
    batch: BatchOut
    undone: int = Field(description="Number of pairs that got their previous verdict back.")
    kept: int = Field(description="Number of pairs that were changed since and stay so.")


class ReviewerCount(BaseModel):
    reviewer: str
    pairs: int = Field(description="Number of pairs on which this reviewer gave a verdict.")


class Agreement(BaseModel):
    """Agreement of two reviewers on the pairs that both reviewed."""

    reviewers: tuple[str, str]
    pairs: int
    agreed: int
    kappa: float | None = Field(
        description="Cohen's kappa: 1 is full agreement, 0 agreement by chance. null where it is "
        "undefined, because both gave one and the same verdict throughout."
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
