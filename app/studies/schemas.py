"""JSON shapes of the studies API."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.store.studies import StudyStatus
from app.studies.figures import Panel
from app.studies.results import Result


class StudyProgress(BaseModel):
    """Runs of a study by how far they are."""

    total: int = Field(description="Runs that the plan comes to.")
    made: int
    succeeded: int
    failed: int
    cancelled: int
    running: int
    eta_seconds: float | None = Field(
        description="Estimated time left, from the study's own finished runs and the workers."
    )


class StudyRunOut(BaseModel):
    """A run of a study and its place."""

    run_id: int
    cell: str = Field(description="Empty for a run that serves all cells.")
    seed: int
    role: str
    status: str
    name: str
    made_dataset_id: int | None = Field(
        description="The dataset of pairs that the study made of the answers that it judged."
    )


class StudySummary(BaseModel):
    id: int
    kind: str
    kind_label: str
    name: str
    status: StudyStatus
    dataset_id: int
    dataset_name: str | None
    model: str
    messages: list[str]
    error: str | None
    progress: StudyProgress
    created_at: datetime
    finished_at: datetime | None


class StudyOut(StudySummary):
    plan: dict[str, Any]
    runs: list[StudyRunOut]
    result: Result | None = Field(
        description="Of the runs that have succeeded so far; final once the study has ended."
    )
    figures: list[Panel] = Field(description="Its charts as plain numbers.")
    models: "StudyModels" = Field(description="Trained models that its runs keep.")


class StudyModels(BaseModel):
    """Trained models of a study's runs."""

    runs: int = Field(description="Runs that have one.")
    bytes: int = Field(description="What they take on disk together.")


class StudyPage(BaseModel):
    total: int
    items: list[StudySummary]


class StudyPreview(BaseModel):
    """What a plan would come to. Nothing is stored."""

    runs: int
    messages: list[str]
    seconds: float | None = Field(
        description="Estimated from earlier runs of the same model; null where there are none."
    )
    workers: int = Field(description="Workers that would share the runs.")
    basis: str = Field(description="What the estimate rests on, in words.")
    plan: dict[str, Any] = Field(description="The plan with everything filled in.")


class Extension(BaseModel):
    """What to add to a study: values of the lists of its plan that may grow."""

    model_config = ConfigDict(extra="allow")


class KindOut(BaseModel):
    name: str
    label: str
    about: str
    grows: list[str]
