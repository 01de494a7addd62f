"""What every study's plan has, and what a plan asks for: runs in places, and what they measured.

A place is (cell, seed, role). A study makes one run for each place, however often it is asked: the
tables allow no second one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.core.errors import field_errors
from app.core.text import STORABLE_PATTERN
from app.judgments.schemas import PairsRequest
from app.store.lookup import Id
from app.store.runs import FINAL
from chesboard.configs import CONFIGS, TrainConfig

MAX_NAME = 200
MAX_SEEDS = 100
MAX_RUNS = 2000
"""Most runs that a study may come to."""

SHARED = (
    *("dtype", "device", "max_prompt_tokens", "max_response_tokens", "batch_tokens"),
    *("chat_template", "chat_template_kwargs"),
)
"""Settings of the model and its input, which all runs of a study share."""

OWN = ("model", "revision", "selection", "seed", "epochs", "max_steps", "save_model")
"""Settings of training runs that a study sets itself, whatever its kind."""

PAPER: Mapping[str, Any] = {"optimizer": "rmsprop", "learning_rate": 1e-7, "beta": 0.1}
"""Settings of training runs as arXiv 2410.08847 has them (Section 3)."""

EPOCHS_WITHOUT_END = 10_000
"""Of runs that `max_steps` ends: one with fewer pairs has the same budget of steps."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Plan(BaseModel):
    """Fields that all kinds of studies share."""

    model_config = ConfigDict(extra="forbid")

    own: ClassVar[tuple[str, ...]] = ()
    """Settings of training runs that this kind of study sets itself, besides OWN."""

    name: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_NAME,
        pattern=STORABLE_PATTERN,
        description="Default: made from the kind and the dataset.",
    )
    dataset_id: Id = Field(description="The dataset whose pairs are studied.")
    dataset_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="Hash of the dataset's file. A plan from another server finds its dataset by "
        "it; a dataset with another hash is refused.",
    )
    model: str = Field(
        TrainConfig.model_fields["model"].default,
        min_length=1,
        description="The model that every run starts from, or that the fine-tuning starts from.",
    )
    revision: str | None = Field(None, description="Of a model from the hub.")
    seeds: list[Seed] = Field(
        [0, 1, 2],
        min_length=1,
        max_length=MAX_SEEDS,
        description="Each cell of the table has a run for each seed. The paper uses ten (Tables "
        "1-4).",
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of the training runs, in place of the study's own defaults.",
    )

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        return unique(seeds)

    @model_validator(mode="after")
    def _settings_of_runs(self) -> Self:
        check_settings(self.config, (*OWN, *self.own))
        return self


def unique(values: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of their first appearance."""
    kept: list[Any] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept


class Place(NamedTuple):
    """Where a run stands in its study. cell: empty for a run that serves all cells."""

    cell: str
    seed: int
    role: str


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run that a plan asks for. config: as the body of `POST /runs` has it. dataset_id: of the
    run; None for the plan's own."""

    place: Place
    kind: str
    config: Mapping[str, Any]
    name: str
    dataset_id: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedPairs:
    """A dataset that a plan asks for: pairs of the answers that a run of the study judged."""

    judge_run: int
    request: PairsRequest


@dataclass(frozen=True, slots=True)
class MadeRun:
    """A run that a study made, as far as going on depends on it. dataset_id: of the pairs that the
    study made of the answers that it judged."""

    id: int
    place: Place
    status: str
    dataset_id: int | None = None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a plan asks for, as far as that can be said by now.

    runs: those that can be made. total: how many it will come to. is_all: whether `runs` holds
    all of them; if not, the others depend on runs that have not succeeded. pairs: a dataset that
    is to be made before what comes next, and has not been yet.
    """

    runs: Sequence[PlannedRun]
    total: int
    is_all: bool = True
    messages: Sequence[str] = field(default_factory=list)
    pairs: PlannedPairs | None = None


def succeeded(made: Iterable[MadeRun], role: str) -> MadeRun | None:
    """The run of a role that has one, if it has succeeded."""
    return next((run for run in made if run.place.role == role and run.status == "succeeded"), None)


def train_config(plan: Plan, defaults: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """A training run's settings: the study's defaults, the plan's, and what the study sets."""
    return {**defaults, **plan.config, "revision": plan.revision, "model": plan.model, **own}


def shared_config(plan: Plan) -> dict[str, Any]:
    """The model and its input, as the plan's settings have them, for runs of any kind."""
    given = {name: plan.config[name] for name in SHARED if name in plan.config}
    return {"model": plan.model, "revision": plan.revision, **given}


def scoring(
    plan: Plan, name: str, selection: Mapping[str, Any] | None = None, dataset_id: int | None = None
) -> PlannedRun:
    """The score run that serves all cells. selection: default: all pairs. dataset_id: default: the
    plan's."""
    config = shared_config(plan)
    if selection is not None:
        config["selection"] = selection
    return PlannedRun(Place("", 0, "score"), "score", config, name, dataset_id)


def check_settings(config: Mapping[str, Any], own: Collection[str]) -> None:
    """Check the settings that a plan gives its training runs.

    own: names of settings that the study sets itself.

    Raises:
        ValueError: one of those is given, or a setting is unknown or out of bounds.
    """
    if taken := [name for name in config if name in own]:
        raise ValueError(f"{taken[0]} is set by the study")
    try:
        CONFIGS["train"].model_validate(dict(config))
    except ValidationError as error:
        found = field_errors(error, prefix="config")[0]
        raise ValueError(f"{found.get('field')}: {found['message']}") from None
