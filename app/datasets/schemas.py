"""Schemas of datasets, pairs, previews and manifests in the API."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from app.core.text import STORABLE_PATTERN
from chesboard.configs import REVISION_PATTERN
from chesboard.formats.file_names import Kind
from chesboard.issues import IssueKind
from chesboard.pairs import Prompt

HubWord = Annotated[str | None, Field(min_length=1, max_length=200, pattern=STORABLE_PATTERN)]


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
        "orpo, h2o, alpacafarm, shp, safe-rlhf, stack-exchange, webgpt, arena, winner, signed, "
        "rated, ranked, kto or rated-rows."
    )
    pairs: int = Field(description="Pairs stored. A row may make several (see `notes`).")
    rejected: int = Field(
        description="Rows that were rejected; of rows that make several pairs, the rejected pairs."
    )
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
    hub_name: str | None = Field(None, description="Of a dataset from the hub: org/name.")
    hub_config: str | None = Field(None, description="Its configuration.")
    hub_split: str | None = Field(None, description="Its split.")
    hub_revision: str | None = Field(None, description="The id of its commit on the hub.")
    created_at: datetime
    same_file: list[int] = Field(
        [], description="On upload: earlier datasets made from the same file."
    )

    @computed_field(  # type: ignore[prop-decorator]
        description="What looks like part of the prompts but is not read, and what reading the "
        "rows mended or left open: a sentence each, with the number of rows."
    )
    @property
    def warnings(self) -> list[str]:
        return list(self.statistics.get("warnings", ()))

    @computed_field(  # type: ignore[prop-decorator]
        description="How rows became pairs, a sentence each; none where each row is a pair."
    )
    @property
    def notes(self) -> list[str]:
        return list(self.statistics.get("notes", ()))

    @computed_field(  # type: ignore[prop-decorator]
        description="The rule by which rows with several responses became pairs; null without any."
    )
    @property
    def pairing(self) -> str | None:
        pairing = self.statistics.get("pairing")
        return None if pairing is None else str(pairing)

    @computed_field(  # type: ignore[prop-decorator]
        description="The table that was read, where the file is an archive or holds several."
    )
    @property
    def member(self) -> str | None:
        member: str | None = self.statistics.get("member")
        return member


class DatasetList(BaseModel):
    total: int
    items: list[DatasetOut]


class PairOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    pair: int = Field(description="The pair's ordinal in the dataset, from 0.")
    prompt: Prompt = Field(
        description="Plain text, or chat messages {role, content}, with tool calls and the like "
        "where the row has them."
    )
    preferred: str
    dispreferred: str
    meta: dict[str, Any] = Field(
        description="The row's other columns, and `row`, its line in the file. Of a row with "
        "several responses also preferred_rating, dispreferred_rating (or _rank) and their models."
    )
    # Sent only on request.
    other: int | None = Field(
        None, description="With `issue`: the pair that this one repeats or conflicts with."
    )
    detail: str | None = Field(None, description="With `issue`: what was seen, in a few words.")
    is_clipped: bool = Field(False, description="With `clip`: a text was cut.")


class PairPage(BaseModel):
    total: int
    items: list[PairOut]


class PairText(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    pair: int
    version: int = Field(description="Of the texts: 1 as in the file, one more with each edit.")
    prompt: Prompt
    preferred: str
    dispreferred: str


class PairTexts(BaseModel):
    items: list[PairText] = Field(description="In the order asked for.")


class RejectionOut(RejectedRow):
    model_config = ConfigDict(from_attributes=True)

    reason: str = Field(
        description="unreadable, missing, empty, identical, undecided, unpaired or unusable."
    )


class RejectionPage(BaseModel):
    total: int = Field(description="Rejected rows that are stored, at most 10,000.")
    items: list[RejectionOut]


class UploadProgress(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    phase: Literal["downloading", "reading", "checking", "storing", "done", "failed"]
    bytes_done: int = Field(description="Bytes of the phase so far: downloaded, or read.")
    bytes_total: int
    pairs: int
    rejected: int
    eta_seconds: float | None


class ColumnPreview(BaseModel):
    name: str
    holds: str = Field(description="text, messages, list, object, number, truth value or nothing.")
    example: str = Field(description="The beginning of a cell.")
    role: str | None = Field(None, description="The recognized role of the column.")
    fields: list[str] = Field(
        [], description="Of a list of objects: the names of their fields, for `mapping`."
    )


class PairPreview(BaseModel):
    row: int
    prompt: Prompt
    preferred: str
    dispreferred: str


class HubSplitOut(BaseModel):
    config: str
    split: str
    files: int
    bytes: int = Field(description="Sum of the files' sizes.")


class HubSource(BaseModel):
    """A split of a dataset on the hub at one commit."""

    name: str
    config: str
    split: str
    revision: str = Field(description="The id of the commit. Send it to store just this.")
    files: list[str] = Field(description="The paths of the split's files, at most 100.")
    bytes: int = Field(description="Sum of the files' sizes: what a download takes.")
    splits: list[HubSplitOut] = Field(description="All splits of the dataset.")


class HubPreviewRequest(BaseModel):
    """A dataset on the Hugging Face hub, by its name."""

    model_config = ConfigDict(extra="forbid")

    hub: str = Field(
        min_length=1,
        max_length=200,
        pattern=STORABLE_PATTERN,
        description="org/name, as the address of the dataset's page ends.",
    )
    config: HubWord = Field(
        None, description="The configuration. Default: the only one, or the hub's default."
    )
    split: HubWord = Field(
        None, description="The split. Default: the only one; where there are several, 422 with all."
    )
    revision: str | None = Field(
        None,
        max_length=200,
        pattern=REVISION_PATTERN,
        description="A branch, a tag or a commit. Default: the main branch.",
    )
    mapping: dict[str, Any] | None = Field(
        None, description="Role → column, as in the form's field of this name."
    )
    pairing: str | None = Field(
        None,
        max_length=100,
        pattern=STORABLE_PATTERN,
        description="How rows with several responses make pairs, as in the form's field of this "
        "name.",
    )


class HubDatasetRequest(HubPreviewRequest):
    """A dataset on the Hugging Face hub, to be stored."""

    name: str | None = Field(None, description="Default: made of name, configuration and split.")
    if_known: Literal["store", "refuse"] = Field(
        "store",
        description="What to do if the same split of the same commit is stored already; refuse: "
        "answer 409 with its `dataset_id`.",
    )


class PairingRule(BaseModel):
    rule: str = Field(
        description="The name of the rule in `pairing`; gap needs a minimum, gap:1.5."
    )
    label: str


class Preview(BaseModel):
    """How a file, or its first part, would be parsed. Nothing is stored."""

    kind: Kind
    is_packed: bool = Field(description="Whether it is compressed, or in an archive.")
    member: str | None = Field(None, description="The table of an archive that is read.")
    is_whole: bool = Field(description="Whether all rows were parsed.")
    format: str | None = Field(description="The recognized form.")
    form: str | None = Field(description="The form in words.")
    confidence: Literal["sure", "unsure", "none"]
    reasons: list[str] = Field(description="Why the mapping should be checked.")
    notes: list[str] = Field(
        [], description="How rows become pairs; none where each row is a pair by itself."
    )
    pairing: str | None = Field(
        None, description="The rule by which rows with several responses become pairs."
    )
    pairings: list[PairingRule] = Field(
        [], description="The rules that can be chosen instead; none where there is nothing to pair."
    )
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
    hub: HubSource | None = Field(None, description="What was previewed, of a dataset of the hub.")


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
    hub_name: str | None = Field(None, description="Of a dataset from the hub: org/name.")
    hub_config: str | None = None
    hub_split: str | None = None
    hub_revision: str | None = Field(None, description="The id of its commit on the hub.")
    source_pairs: int
    source_rejected: int = Field(description="Rows of the file that were rejected.")
    source_form: str
    columns: dict[str, Any] | None = Field(description="Role of each column of the file.")
    format: str
    form: str
    exclude: list[str] = Field(description="What was excluded: 'flagged', or verdicts.")
    exclude_issues: list[IssueKind] = Field(description="Pairs with these issues were excluded.")
    only_issues: list[IssueKind] = Field(
        description="If any: only pairs with one of these issues were exported."
    )
    verdicts: dict[str, int] = Field(description="Number of pairs by verdict.")
    score_runs: list[ManifestRun] = Field(description="The score runs that set the current flags.")
    edited: int = Field(description="Pairs in the export with edited text.")
    notes: list[str] = Field([], description="How rows became pairs, and how these are written.")
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
