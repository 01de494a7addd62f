"""JSON shapes of the data doctor."""

from datetime import datetime

from pydantic import BaseModel, Field

from app.findings.schemas import DatasetFindings
from chesboard.issues import IssueKind, Severity


class ExampleOut(BaseModel):
    """A pair with an issue: of each text the part in which it is seen, with … where it was cut."""

    pair: int
    row: int | None = Field(description="Row of the uploaded file, counted from 1.")
    other: int | None = Field(description="The pair that it repeats or conflicts with.")
    detail: str | None = Field(description="What was seen, in a few words.")
    prompt: str = Field(description="Of chat messages the one that matters, by default the last.")
    preferred: str
    dispreferred: str


class IssueKindOut(BaseModel):
    """One kind of issues, explained, with the pairs that have it."""

    kind: IssueKind
    label: str
    severity: Severity = Field(
        description="high: the preference is likely wrong. medium: a text is likely not what was "
        "meant, or the pair teaches nothing. low: worth knowing; often meant so."
    )
    help: str = Field(description="What was seen.")
    advice: str = Field(description="What to do.")
    count: int | None = Field(
        description="Number of pairs at present; null if the dataset was not checked for it."
    )
    pairs_url: str = Field(description="Where the API lists all of them.")
    examples: list[ExampleOut] = Field(description="The first ones.")


class UnderModel(BaseModel):
    """Truncation, boundaries and template under one model."""

    model: str
    checked: DatasetFindings | None = Field(
        description="null: no run has looked yet, which is not to say that nothing is to be found. "
        'POST /runs with {"kind": "check", "dataset_id": ID, "config": {"model": NAME}} looks.'
    )


class DoctorOut(BaseModel):
    dataset_id: int
    pairs: int
    with_issues: int = Field(description="Number of pairs with at least one issue.")
    by_severity: dict[Severity, int] = Field(
        description="Number of pairs with at least one issue of this severity."
    )
    is_current: bool = Field(
        description="Whether the dataset was checked for all kinds. If not, POST to this address "
        "checks it."
    )
    checked_at: datetime | None = Field(description="When all of it was checked last.")
    edited: int = Field(
        description="Number of pairs edited since. Their own issues are those of the current text; "
        "which pairs they repeat or contradict now, only the next check of all finds."
    )
    kinds: list[IssueKindOut] = Field(description="All kinds, those of most pairs first.")
    hints: list[str] = Field(
        description="What the pairs say together about which response is the preferred one."
    )
    warnings: list[str] = Field(
        description="What looks like part of the prompts but is not read: a sentence each."
    )
    rejected: dict[str, int] = Field(description="Rows that make no pair, by reason.")
    under_model: UnderModel | None = Field(None, description="With `model`.")
