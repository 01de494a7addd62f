"""Datasets as the API and the pages show them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.datasets.rows import Prompt


class RejectedRow(BaseModel):
    row: int = Field(description="Its line in the file, from 1 (in a JSON array: its place).")
    message: str
    field: str | None = Field(None, description="The column that is not as it should be.")
    snippet: str | None = Field(None, description="How the row begins.")


class DatasetOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    format: str = Field(description="The recognised form: text, chat, hh-rlhf or persona.")
    pairs: int = Field(description="Rows stored.")
    rejected: int = Field(description="Rows that could not be used.")
    errors: list[RejectedRow] = Field(description="The first rejected rows, at most 100.")
    statistics: dict[str, Any] = Field(
        description="Columns found, duplicates, and lengths in characters: quantiles and a "
        "histogram for prompt, preferred and dispreferred."
    )
    source_filename: str
    source_bytes: int
    source_sha256: str
    created_at: datetime


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


class PairPage(BaseModel):
    total: int
    items: list[PairOut]


class Manifest(BaseModel):
    """How an export came about."""

    dataset_id: int
    name: str
    source_filename: str
    source_sha256: str
    source_pairs: int
    exclude: list[str] = Field(
        description="What was left out: 'flagged', or verdicts such as 'drop'; may be nothing."
    )
    verdicts: dict[str, int] = Field(description="How many pairs have each verdict.")
    edited: int = Field(description="Pairs in it whose text was edited.")
    kept: int
    left_out: int


class SampleOut(BaseModel):
    name: str
    description: str
    pairs: int


class SampleList(BaseModel):
    total: int
    items: list[SampleOut]
