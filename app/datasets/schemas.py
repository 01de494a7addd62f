"""Schemas of datasets, pairs, previews and manifests in the API."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from chesboard.pairs import Prompt


class RejectedRow(BaseModel):
    row: int = Field(description="Line in the file, from 1 (in an array or table: position).")
    message: str
    field: str | None = Field(None, description="The column at fault.")
    snippet: str | None = Field(None, description="The beginning of the cell or of the row.")


class DatasetOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    format: str = Field(
        description="The recognized form: text, chat, hh-rlhf, persona, ultrafeedback, implicit, "
        "orpo, h2o, alpacafarm, shp or safe-rlhf."
    )
    pairs: int = Field(description="Rows stored.")
    rejected: int = Field(description="Rows that were rejected.")
    errors: list[RejectedRow] = Field(description="The first rejected rows, at most 100.")
    statistics: dict[str, Any] = Field(
        description="Columns, duplicates, number of pairs by issue, number of rejected rows by "
        "reason, and lengths in characters: quantiles and a histogram for prompt, preferred and "
        "dispreferred."
    )
    columns: dict[str, Any] | None = Field(None, description="Role of each column.")
    source_filename: str
    source_bytes: int
    source_sha256: str
    created_at: datetime
    same_file: list[int] = Field(
        [], description="On upload: earlier datasets made from the same file."
    )

    @computed_field(  # type: ignore[prop-decorator]
        description="What looks like part of the prompts but is not read: a sentence each, with "
        "the number of rows."
    )
    @property
    def warnings(self) -> list[str]:
        return list(self.statistics.get("warnings", ()))


class DatasetList(BaseModel):
    total: int
    items: list[DatasetOut]


class PairOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    pair: int = Field(description="The row's ordinal in the dataset, from 0.")
    prompt: Prompt = Field(description="Plain text, or chat messages {role, content}.")
    preferred: str
    dispreferred: str
    meta: dict[str, Any] = Field(
        description="The row's other columns, and `row`, its line in the file."
    )
    # Sent only on request.
    other: int | None = Field(
        None, description="With `issue`: the pair that this one duplicates or contradicts."
    )
    is_clipped: bool = Field(False, description="With `clip`: a text was cut.")


class PairPage(BaseModel):
    total: int
    items: list[PairOut]


class RejectionOut(RejectedRow):
    model_config = ConfigDict(from_attributes=True)

    reason: str = Field(description="unreadable, missing, empty, identical, undecided or unusable.")


class RejectionPage(BaseModel):
    total: int = Field(description="Rejected rows that are stored, at most 10,000.")
    items: list[RejectionOut]


class UploadProgress(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    phase: Literal["reading", "checking", "storing", "done", "failed"]
    bytes_done: int = Field(description="Bytes of the file read so far.")
    bytes_total: int
    pairs: int
    rejected: int
    eta_seconds: float | None


class ColumnPreview(BaseModel):
    name: str
    holds: str = Field(description="text, messages, list, object, number, truth value or nothing.")
    example: str = Field(description="The beginning of a cell.")
    role: str | None = Field(None, description="The recognized role of the column.")


class PairPreview(BaseModel):
    row: int
    prompt: Prompt
    preferred: str
    dispreferred: str


class Preview(BaseModel):
    """How a file, or its first part, would be parsed. Nothing is stored."""

    kind: Literal["jsonl", "json", "csv", "parquet"]
    is_packed: bool
    is_whole: bool = Field(description="Whether all rows were parsed.")
    format: str | None = Field(description="The recognized form.")
    form: str | None = Field(description="The form in words.")
    confidence: Literal["sure", "unsure", "none"]
    reasons: list[str] = Field(description="Why the mapping should be checked.")
    columns: list[ColumnPreview]
    mapping: dict[str, str] | None = Field(
        description="The columns in the format of the upload's `mapping`; null where no column was "
        "recognized."
    )
    needs_mapping: bool = Field(
        description="Whether the upload must be sent with this mapping, because it was guessed."
    )
    rows: int
    usable: int
    rejected: int
    errors: list[RejectedRow]
    pairs: list[PairPreview] = Field(description="The first pairs, with their texts cut.")


class ManifestRun(BaseModel):
    """A score run by which pairs were flagged."""

    run: int
    model: str
    measure: str
    flagged: int
    finished_at: datetime | None


class Manifest(BaseModel):
    """The provenance of an export: source file, rules, verdicts and score runs."""

    dataset_id: int
    name: str
    source_filename: str
    source_sha256: str
    source_bytes: int
    source_pairs: int
    source_rejected: int = Field(description="Rows of the file that were rejected.")
    source_form: str
    columns: dict[str, Any] | None = Field(description="Role of each column of the file.")
    format: str
    form: str
    exclude: list[str] = Field(description="What was excluded: 'flagged', or verdicts.")
    verdicts: dict[str, int] = Field(description="Number of pairs by verdict.")
    score_runs: list[ManifestRun] = Field(description="The score runs that set the current flags.")
    edited: int = Field(description="Pairs in the export with edited text.")
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
