"""Datasets as the API and the pages show them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chesboard.pairs import Prompt


class RejectedRow(BaseModel):
    row: int = Field(description="Its line in the file, from 1 (in an array or table: its place).")
    message: str
    field: str | None = Field(None, description="The column that is not as it should be.")
    snippet: str | None = Field(None, description="How the cell or the row begins.")


class DatasetOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    format: str = Field(
        description="The recognized form: text, chat, hh-rlhf, persona, ultrafeedback, implicit, "
        "orpo, h2o, alpacafarm, shp or safe-rlhf."
    )
    pairs: int = Field(description="Rows stored.")
    rejected: int = Field(description="Rows that could not be used.")
    errors: list[RejectedRow] = Field(description="The first rejected rows, at most 100.")
    statistics: dict[str, Any] = Field(
        description="Columns found, duplicates, issues and how many pairs have each, reasons of "
        "rejected rows, and lengths in characters: quantiles and a histogram for prompt, "
        "preferred and dispreferred."
    )
    columns: dict[str, Any] | None = Field(None, description="Which column held what.")
    source_filename: str
    source_bytes: int
    source_sha256: str
    created_at: datetime
    same_file: list[int] = Field(
        [], description="On upload: earlier datasets that were made of this very file."
    )


class DatasetList(BaseModel):
    total: int
    items: list[DatasetOut]


class PairOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    pair: int = Field(description="The row's ordinal in the dataset, from 0.")
    prompt: Prompt = Field(description="Plain text, or chat messages {role, content}.")
    preferred: str
    dispreferred: str
    meta: dict[str, Any] = Field(description="The row's other columns, and its `row` in the file.")
    # Sent only where they are asked for.
    other: int | None = Field(
        None, description="With `issue`: the pair that this one repeats or contradicts."
    )
    is_clipped: bool = Field(False, description="With `clip`: some text goes on.")


class PairPage(BaseModel):
    total: int
    items: list[PairOut]


class RejectionOut(RejectedRow):
    model_config = ConfigDict(from_attributes=True)

    reason: str = Field(description="unreadable, missing, empty, identical, undecided or unusable.")


class RejectionPage(BaseModel):
    total: int = Field(description="Rejected rows that are kept, at most 10,000.")
    items: list[RejectionOut]


class UploadProgress(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    phase: Literal["reading", "checking", "storing", "done", "failed"]
    bytes_done: int = Field(description="Bytes of the file that were read.")
    bytes_total: int
    pairs: int
    rejected: int
    eta_seconds: float | None


class ColumnPreview(BaseModel):
    name: str
    holds: str = Field(description="text, messages, list, object, number, truth value or nothing.")
    example: str = Field(description="How a cell of it begins.")
    role: str | None = Field(None, description="What the column is taken for.")


class PairPreview(BaseModel):
    row: int
    prompt: Prompt
    preferred: str
    dispreferred: str


class Preview(BaseModel):
    """What is understood of a file, or of its beginning, before anything is stored."""

    kind: Literal["jsonl", "json", "csv", "parquet"]
    is_packed: bool
    is_whole: bool = Field(description="Whether all rows were looked at.")
    format: str | None = Field(description="The recognized form.")
    form: str | None = Field(description="The form in words.")
    confidence: Literal["sure", "unsure", "none"]
    reasons: list[str] = Field(description="Why one should look at the mapping.")
    columns: list[ColumnPreview]
    mapping: dict[str, str] | None = Field(
        description="The columns as the upload's `mapping` takes them; null where the form needs "
        "no mapping and has none."
    )
    needs_mapping: bool = Field(
        description="Whether the upload must be sent with this mapping, since it is but a guess."
    )
    rows: int
    usable: int
    rejected: int
    errors: list[RejectedRow]
    pairs: list[PairPreview] = Field(description="The first pairs, their texts cut.")


class ManifestRun(BaseModel):
    """A score run by which pairs were flagged."""

    run: int
    model: str
    measure: str
    flagged: int
    finished_at: datetime | None


class Manifest(BaseModel):
    """How an export came about."""

    dataset_id: int
    name: str
    source_filename: str
    source_sha256: str
    source_bytes: int
    source_pairs: int
    source_rejected: int = Field(description="Rows of the file that were no pairs.")
    source_form: str
    columns: dict[str, Any] | None = Field(description="Which column of the file held what.")
    format: str
    form: str
    exclude: list[str] = Field(description="What was left out: 'flagged', or verdicts.")
    verdicts: dict[str, int] = Field(description="How many pairs have each verdict.")
    score_runs: list[ManifestRun] = Field(description="Whose scores set the present flags.")
    edited: int = Field(description="Pairs in the export whose text was edited.")
    kept: int
    left_out: int
    exported_at: datetime


class SampleOut(BaseModel):
    name: str
    description: str
    pairs: int


class SampleList(BaseModel):
    total: int
    items: list[SampleOut]
