"""Runs as the API and the pages show them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.core.nonfinite import finite_or_none
from app.core.text import storable
from app.probes.headline import Headline
from app.store.runs import Metric, Run
from chesboard.pairs import Pair
from chesboard.records import METRICS

Kind = Literal["score", "train", "evaluate"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
"""The statuses in which nobody works on a run; only `resume` leads out of them."""

Name = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$"), AfterValidator(storable)
]


class NewRun(BaseModel):
    """What `POST /runs` asks for."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    dataset_id: int
    name: Name | None = Field(None, description="Left out: made of the kind and the dataset.")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="By kind: a score, train or evaluate configuration. What is left out gets "
        "its default; the run keeps the full configuration.",
    )


class RunChanges(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name


class Progress(BaseModel):
    done: int
    total: int | None = Field(description="null until the worker knows.")
    unit: str = Field(description="What is counted: 'pairs' or 'steps'.")
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
        description="'waiting for a worker', 'downloading', 'dequantizing', 'loading', "
        "'tokenizing', 'comparing forward passes', 'reference pass', 'initial probes', 'scoring', "
        "'training', 'measuring displacement' or 'saving the model'."
    )
    done: int | None = None
    total: int | None = None
    unit: str | None = Field(
        None, description="What is counted: 'bytes', 'tensors', 'pairs', 'steps'."
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


class RunOut(BaseModel):
    id: int
    kind: Kind
    name: str
    status: Status
    dataset_id: int
    dataset_name: str
    progress: Progress
    phase: Phase | None = Field(
        description="What the run is doing now; null once it is finished, and while a worker of "
        "an earlier version has it."
    )
    config: dict[str, Any] = Field(description="The full configuration, defaults filled in.")
    summary: dict[str, Any] = Field(description="What came out; empty until the run succeeded.")
    verdict: str | None = Field(description="What happened to the watched pairs, in a sentence.")
    displaced: bool | None = Field(
        description="Whether the pair that the verdict speaks of is displaced: its preferred "
        "response lost likelihood while the margin grew. null where nothing is watched yet."
    )
    error: dict[str, Any] | None = Field(description="{message, hint, traceback} of a failed run.")
    messages: list[str] = Field(description="What the user should know besides.")
    cancel_requested: bool = Field(description="The worker was asked to stop.")
    worker: str | None
    device: str | None
    attempts: int
    revision: int = Field(
        description="Counts what was written of the run; `events?since=` goes on from here."
    )
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run, dataset_name: str, headline: Headline | None) -> Self:
        return cls.model_validate(
            {
                **{name: getattr(run, name) for name in _PLAIN},
                "dataset_name": dataset_name,
                "progress": Progress.of(run),
                "phase": Phase.of(run),
                "verdict": headline.sentence if headline else None,
                "displaced": headline.displaced if headline else None,
            }
        )


_PLAIN = tuple(
    name
    for name in RunOut.model_fields
    if name not in ("dataset_name", "progress", "phase", "verdict", "displaced")
)


class RunPage(BaseModel):
    total: int
    items: list[RunOut]


class MetricOut(BaseModel):
    """One optimizer step; means over its batch. Log-probabilities are sums in nats."""

    step: int
    loss: float | None
    margin: float | None
    preferred_logprob: float | None
    dispreferred_logprob: float | None
    preferred_change: float | None = Field(description="Against the reference.")
    dispreferred_change: float | None
    displaced_fraction: float | None
    accuracy: float | None = Field(description="Fraction of pairs with margin > 0.")
    grad_norm: float | None
    learning_rate: float | None
    tokens_per_second: float | None
    tokens_seen: int | None
    nonfinite: list[str] = Field(
        description="Names of the fields that are null because they were NaN or infinite."
    )

    @classmethod
    def of(cls, metric: Metric) -> Self:
        values = {name: getattr(metric, name) for name in METRICS}
        gaps = [
            name
            for name, value in values.items()
            if value is not None and finite_or_none(value) is None
        ]
        return cls(step=metric.step, **{**values, **dict.fromkeys(gaps)}, nonfinite=gaps)


class MetricList(BaseModel):
    revision: int = Field(
        description="The run's revision that this reaches at least; `events?since=` goes on here."
    )
    total: int = Field(description="Steps in the range that was asked for.")
    decimated: bool = Field(
        description="Whether `items` is a choice of them, which keeps the first, the last and the "
        "extremes of every column."
    )
    items: list[MetricOut]


class SelectionPreview(BaseModel):
    """What a selection comes to, now."""

    total: int = Field(description="Pairs of the dataset.")
    count: int = Field(description="Pairs that are left.")
    left_out: int
    sample: list[Pair] = Field(description="Some of the pairs that are left.")
    sample_left_out: list[Pair] = Field(description="Some of those that are not.")


class LikeRun(BaseModel):
    """A run with the same settings over the same dataset, but for the pairs."""

    run_id: int
    name: str
    status: Status
    pairs: int | None = Field(description="null where it has none on record.")
    words: str = Field(description="The rules that chose them; empty where there are none.")


class RunPairs(BaseModel):
    """Which pairs a run was given."""

    total: int | None = Field(
        description="How many. null where that is not decided yet, or was never recorded."
    )
    dataset_pairs: int
    edited: int = Field(description="Of its pairs, how many have another text by now.")
    selection: dict[str, Any] = Field(description="The rules that chose them.")
    words: str = Field(description="The rules in words; empty where there are none.")
    alike: list[LikeRun] = Field(description="To compare with: other pairs, all else the same.")
    offset: int
    pairs: list[int]
