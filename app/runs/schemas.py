"""JSON shapes of runs, their metrics and their pairs."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.core.nonfinite import finite_or_none
from app.core.text import STORABLE_PATTERN, storable
from app.probes.headline import Headline
from app.probes.schemas import DisplacementOut, displacement_fields
from app.store.external import ExternalRun
from app.store.lookup import Id
from app.store.runs import EXTERNAL, QUIET_AFTER, Kind, Metric, Run, Status
from chesboard.pairs import Pair
from chesboard.probing.destinations import DisplacementKind
from chesboard.records import METRICS

MAX_NAME = 200
"""Longest name of a run, in characters."""

Name = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME, pattern=STORABLE_PATTERN),
    AfterValidator(storable),
]


class NewRun(BaseModel):
    """The body of `POST /runs`."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    dataset_id: Id | None = Field(
        None, description="Required, except of an external run, whose pairs may not be stored here."
    )
    name: Name | None = Field(
        None, description="Default: made from the kind, the dataset and the selection."
    )
    key: uuid.UUID | None = Field(
        None,
        description="Of an external run alone, which needs one: asking again with the same key "
        "answers with the same run.",
    )
    dataset_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None,
        description="Of an external run, in place of dataset_id: SHA-256 of the file that it "
        "trains on. If no such file was uploaded, the run has no dataset.",
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="The configuration of the run's kind. "
        "Missing settings get their defaults; the run stores the full configuration.",
    )


class RunChanges(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name


class Progress(BaseModel):
    done: int
    total: int | None = Field(description="null until the worker has counted.")
    unit: str = Field(description="'pairs', 'steps' or 'answers'.")
    eta_seconds: float | None

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls(
            done=run.progress_done,
            total=run.progress_total,
            unit=run.progress_unit,
            eta_seconds=finite_or_none(run.eta_seconds),
        )


WAITING = "waiting for a worker"


class Phase(BaseModel):
    """What a run is doing. Counts are null in phases that have no progress of their own."""

    name: str = Field(
        description="'waiting for a worker', 'waiting for seats', 'downloading', "
        "'dequantizing', 'loading', 'tokenizing', 'comparing forward passes', 'reference pass', "
        "'initial probes', 'scoring', "
        "'training', 'measuring displacement' or 'saving the model'."
    )
    done: int | None = None
    total: int | None = None
    unit: str | None = Field(
        None,
        description="What is counted: 'bytes', 'tensors', 'layers', 'pairs', 'steps', seats "
        "'taken'.",
    )
    eta_seconds: float | None = Field(None, description="Estimated time left of the phase.")

    @classmethod
    def of(cls, run: Run) -> Self | None:
        """None for a finished run, and where the worker has not reported a phase."""
        if run.status == "queued":
            return cls(name=WAITING)
        if run.status != "running" or run.phase is None:
            return None
        return cls(
            name=run.phase,
            done=run.phase_done,
            total=run.phase_total,
            unit=run.phase_unit,
            eta_seconds=finite_or_none(run.phase_eta_seconds),
        )


def quiet_since(run: Run, now: datetime) -> datetime | None:
    """Its last report, of a run that has made none for too long. Runs of earlier versions tell of
    none until they report again."""
    if run.status != "running" or run.kind == EXTERNAL or run.reported_at is None:
        return None
    return run.reported_at if now - run.reported_at > QUIET_AFTER else None


class RunOut(BaseModel):
    id: int
    kind: Kind
    name: str
    status: Status
    dataset_id: int | None = Field(
        description="null for an external run over pairs that are not stored here."
    )
    dataset_name: str | None
    progress: Progress
    phase: Phase | None = Field(
        description="What the run is doing now; null once it is finished, and while a worker of "
        "an earlier version has it."
    )
    config: dict[str, Any] = Field(description="The full configuration, with defaults filled in.")
    summary: dict[str, Any] = Field(description="Results; empty until the run has succeeded.")
    verdict: str | None = Field(
        description="What happened to the most prominent of the probed pairs, in words with the "
        "numbers at its fork, and how many are displaced."
    )
    verdict_short: str | None = Field(description="The same in one or two short sentences.")
    verdict_pair: int | None = Field(description="The ordinal of the pair that it describes.")
    displaced: bool | None = Field(
        description="Whether the pair that `verdict` describes is displaced: its preferred "
        "response lost likelihood while the margin grew. null while nothing has been probed."
    )
    displacement_kind: DisplacementKind | None = Field(
        description="How that pair's displacement ended: kept, benign or catastrophic. null where "
        "that cannot be told, and under cross_entropy."
    )
    displacement: DisplacementOut | None = Field(description="What `displacement_kind` rests on.")
    error: dict[str, Any] | None = Field(description="{message, hint, traceback} of a failed run.")
    messages: list[str] = Field(description="Notices, for example on truncated responses.")
    cancel_requested: bool = Field(description="Whether the worker was asked to stop.")
    worker: str | None = Field(description="Who claimed it, or a shard of it, last.")
    device: str | None
    attempts: int
    heard_at: datetime | None = Field(
        description="When the trainer of an external run last sent something, a heartbeat included."
    )
    recorded_through: int | None = Field(
        description="Of an external run: the last step that is recorded; null before the first."
    )
    quiet_since: datetime | None = Field(
        description="When the worker of a running run last reported anything, where that is more "
        "than ten minutes ago: it may be held up. null otherwise."
    )
    revision: int = Field(
        description="Incremented by every write to the run; `events?since=` streams what follows."
    )
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(
        cls,
        run: Run,
        dataset_name: str | None,
        headline: Headline | None,
        external: ExternalRun | None = None,
    ) -> Self:
        return cls.model_validate(
            {
                **{name: getattr(run, name) for name in _COPIED},
                "messages": [*run.messages, *run.pair_messages],
                "dataset_name": dataset_name,
                "heard_at": external.heard_at if external else None,
                "recorded_through": external.recorded_through if external else None,
                "progress": Progress.of(run),
                "phase": Phase.of(run),
                "quiet_since": quiet_since(run, datetime.now(UTC)),
                "verdict": headline.sentence if headline else None,
                "verdict_short": headline.short if headline else None,
                "verdict_pair": headline.about.pair if headline and headline.about else None,
                "displaced": headline.displaced if headline else None,
                **displacement_fields(headline),
            }
        )


_COPIED = tuple(
    name
    for name in RunOut.model_fields
    if name
    not in (
        "messages",
        "dataset_name",
        "heard_at",
        "recorded_through",
        "progress",
        "phase",
        "quiet_since",
        "verdict",
        "verdict_short",
        "verdict_pair",
        "displaced",
        "displacement_kind",
        "displacement",
    )
)


class RunPage(BaseModel):
    total: int
    items: list[RunOut]


class MetricOut(BaseModel):
    """One optimizer step: means over its batch. Log-probabilities are sums in nats."""

    step: int
    loss: float | None
    margin: float | None
    preferred_logprob: float | None
    dispreferred_logprob: float | None
    preferred_change: float | None = Field(description="Against the reference model.")
    dispreferred_change: float | None
    displaced_fraction: float | None
    accuracy: float | None = Field(description="Fraction of the pairs with a margin above 0.")
    grad_norm: float | None
    learning_rate: float | None
    tokens_per_second: float | None
    tokens_seen: int | None
    extra: dict[str, float | None] | None = Field(
        description="What else the trainer of an external run logged, by its own names."
    )
    nonfinite: list[str] = Field(
        description="Names of the fields that are null because they were NaN or infinite."
    )

    @classmethod
    def of(cls, metric: Metric) -> Self:
        values = {name: getattr(metric, name) for name in METRICS}
        nonfinite = [
            name
            for name, value in values.items()
            if value is not None and finite_or_none(value) is None
        ]
        values |= dict.fromkeys(nonfinite)
        return cls(step=metric.step, **values, extra=metric.extra, nonfinite=nonfinite)


class MetricList(BaseModel):
    revision: int = Field(
        description="A revision that the items include; pass it to `events?since=` to follow on."
    )
    total: int = Field(description="Number of steps in the requested range.")
    decimated: bool = Field(
        description="Whether `items` is downsampled. The first and last step and the extremes of "
        "every column are kept."
    )
    items: list[MetricOut]


class SelectionPreview(BaseModel):
    """How many pairs of a dataset a selection matches at present, with examples."""

    total: int = Field(description="Number of pairs in the dataset.")
    count: int = Field(description="Number of pairs that the selection matches.")
    left_out: int = Field(description="Number of pairs that it does not match.")
    sample: list[Pair] = Field(description="The first pairs that it matches.")
    sample_left_out: list[Pair] = Field(description="The first pairs that it does not match.")


class LikeRun(BaseModel):
    """A run with the same dataset and settings, but other pairs."""

    run_id: int
    name: str
    status: Status
    pairs: int | None = Field(description="Number of its pairs; null if not recorded.")
    words: str = Field(description="Its selection as text; empty for all pairs.")


class RunPairs(BaseModel):
    """The pairs that a run was given."""

    total: int | None = Field(description="Number of pairs; null if not recorded.")
    dataset_pairs: int = Field(description="Number of pairs in the dataset at that time.")
    edited: int = Field(description="Number of its pairs whose text was edited since.")
    selection: dict[str, Any] = Field(description="The selection that chose them.")
    words: str = Field(description="The selection as text; empty for all pairs.")
    alike: list[LikeRun] = Field(description="Runs to compare with: same settings, other pairs.")
    offset: int
    pairs: list[int] = Field(description="Ordinals of this page of the pairs, ascending.")
