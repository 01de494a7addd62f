"""JSON shapes of a run's findings."""

from datetime import datetime

from pydantic import BaseModel, Field

from app.store.runs import Kind
from chesboard.findings import Consequence, FindingKind
from chesboard.pairs import Prompt


class FindingKindOut(BaseModel):
    """One kind of findings, explained, and how many pairs of the run have it."""

    kind: FindingKind
    label: str
    consequence: Consequence = Field(
        description="'left out': the pair takes no part in the run. 'not measured': it has "
        "log-probabilities, but no measures, and is not trained on. 'doubt': it takes part as it "
        "is. 'mended': the model reads it as the row means it, which is not how it was written."
    )
    help: str = Field(description="What was seen.")
    advice: str = Field(description="What to do.")
    count: int = Field(description="Number of pairs.")


class FindingRow(BaseModel):
    """One finding, as downloads have it."""

    pair: int
    row: int | None = Field(description="Row of the uploaded file, counted from 1.")
    kind: FindingKind
    consequence: Consequence
    detail: str | None = Field(
        description="What exactly: the template's error, the tokens found, the role of the turn."
    )


class FindingOut(FindingRow):
    """One finding with the pair's texts as the run was given them, each cut to 600 characters."""

    prompt: Prompt
    preferred: str
    dispreferred: str


class FindingList(BaseModel):
    total: int = Field(description="Number of findings, of the kind that was asked for.")
    complete: bool = Field(
        description="Whether all pairs of the run were looked at. False until it has succeeded, "
        "and for runs of earlier versions, which recorded no findings."
    )
    counts: dict[FindingKind, int] = Field(
        description="Number of pairs by kind, of the kinds that were found."
    )
    kinds: list[FindingKindOut] = Field(description="The kinds that were found, explained.")
    items: list[FindingOut] = Field(description="By pair.")


class DatasetFindings(BaseModel):
    """How many pairs of a dataset have findings under a model, by the newest run that looked."""

    run_id: int
    kind: Kind
    finished_at: datetime | None
    max_prompt_tokens: int
    max_response_tokens: int
    edited: int = Field(description="Number of pairs whose text was edited since.")
    kinds: list[FindingKindOut]
