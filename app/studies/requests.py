"""Creating, cancelling, resuming, extending and deleting studies, in the caller's transaction."""

from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import ConflictError, InvalidInputError, NotFoundError, field_errors
from app.models.queries import check_model_exists, check_revision, result_bytes
from app.runs import requests as runs
from app.runs.validation import listed
from app.store.datasets import Dataset
from app.store.lookup import MAX_ID, there_is_no
from app.store.runs import Run
from app.store.studies import Study, StudyRun
from app.studies.engine import UNFINISHED, runs_of, wanted_of
from app.studies.kinds import kind_of
from app.studies.plans import MAX_NAME, Plan


def require_study(session: Session, study_id: int, *, lock: bool = False) -> Study:
    """Raises:
    NotFoundError: no such study.
    """
    study = session.get(Study, study_id, with_for_update=lock) if 0 < study_id <= MAX_ID else None
    if study is None:
        raise NotFoundError(there_is_no("study", study_id))
    return study


def complete(session: Session, plan: Plan) -> tuple[Plan, Dataset]:
    """The plan with everything filled in that can be looked up now, and its dataset.

    Raises:
        InvalidInputError: the dataset, the model or a setting does not exist or does not fit.
    """
    dataset = _dataset(session, plan)
    plan = plan.model_copy(
        update={"dataset_id": dataset.id, "dataset_sha256": dataset.source_sha256}
    )
    try:
        check_model_exists(session, plan.model)
        check_revision(session, plan.model, plan.revision)
    except InvalidInputError as error:  # which names the fields as a run's body has them
        raise _invalid(error.errors[0]["field"].removeprefix("config."), error.detail) from None
    return kind_of(_kind(plan)).complete(session, plan), dataset


def _kind(plan: Plan) -> str:
    return str(plan.model_dump()["kind"])


def _dataset(session: Session, plan: Plan) -> Dataset:
    """The dataset that the plan names, or the one with the file's hash that it names."""
    named = session.get(Dataset, plan.dataset_id)
    if plan.dataset_sha256 is None:
        if named is None:
            raise _invalid("dataset_id", there_is_no("dataset", plan.dataset_id))
        return named
    if named is not None and named.source_sha256 == plan.dataset_sha256:
        return named
    same = session.scalar(
        select(Dataset)
        .where(Dataset.source_sha256 == plan.dataset_sha256)
        .order_by(Dataset.id)
        .limit(1)
    )
    if same is None:
        raise _invalid(
            "dataset_sha256",
            "No dataset here was made of the file of this plan. Upload the file (its SHA-256 is "
            f"{plan.dataset_sha256}), or take out dataset_sha256 and name another dataset.",
        )
    return same


def _invalid(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(message, [{"field": field, "message": message}])


def create(session: Session, plan: Plan) -> Study:
    """Store a study with its full plan; the engine makes its runs.

    Raises:
        InvalidInputError: names the field of the plan.
        ConflictError: the plan comes to too many runs.
    """
    plan, dataset = complete(session, plan)
    kind = kind_of(_kind(plan))
    study = Study(
        kind=kind.name,
        name=plan.name or f"{kind.label}: {dataset.name}"[:MAX_NAME],
        plan=plan.model_dump(mode="json"),
        messages=[],
    )
    wanted = wanted_of(session, study, [])  # refused now, rather than after the first phase
    study.messages = list(wanted.messages)
    session.add(study)
    session.flush()
    session.refresh(study)
    return study


def cancel(session: Session, study_id: int) -> tuple[Study, list[Run]]:
    """Cancel a study and its unfinished runs; returns these too. Idempotent.

    Raises:
        NotFoundError: no such study.
        ConflictError: it has succeeded or failed.
    """
    study = require_study(session, study_id, lock=True)
    if study.status in ("succeeded", "failed"):
        raise ConflictError(f"Study {study_id} has {study.status}; nothing is left to cancel.")
    study.status = "cancelled"
    unfinished = [run.id for run in runs_of(session, study_id) if not run.is_final]
    return study, [runs.cancel(session, run_id) for run_id in unfinished]


def resume(session: Session, study_id: int) -> tuple[Study, list[Run]]:
    """Take up a failed or cancelled study again, with its failed and cancelled runs.

    Raises:
        NotFoundError: no such study.
        ConflictError: it is neither failed nor cancelled, a run of it is still stopping, or the
            queue is full.
    """
    study = require_study(session, study_id, lock=True)
    if study.status not in ("failed", "cancelled"):
        raise ConflictError(
            f"Study {study_id} is {study.status}; only a failed or cancelled one can be resumed."
        )
    made = runs_of(session, study_id)
    if stopping := [run.id for run in made if run.status == "running"]:
        raise ConflictError(
            f"{listed('Run', stopping)} of the study has not stopped yet. Resume in a moment."
        )
    again = [run.id for run in made if run.status in ("failed", "cancelled")]
    resumed = [runs.resume(session, run_id) for run_id in again]
    _reopen(study)
    return study, resumed


def _reopen(study: Study) -> None:
    study.status = "running"
    study.error = study.result = study.finished_at = None


def extend(session: Session, study_id: int, more: dict[str, Any]) -> Study:
    """Add seeds, arms and the like to a study; it goes on with what is new.

    Raises:
        NotFoundError: no such study.
        InvalidInputError: a field is not one of those that may grow, or a value is invalid.
        ConflictError: it is cancelled.
    """
    study = require_study(session, study_id, lock=True)
    kind = kind_of(study.kind)
    if study.status == "cancelled":
        raise ConflictError(f"Study {study_id} is cancelled. Resume it before it is extended.")
    values = dict(study.plan)
    for name, added in more.items():
        if name not in kind.grows:
            may = ", ".join(kind.grows)
            raise _invalid(name, f"This cannot be added to; in such a study there are: {may}.")
        if not isinstance(added, list):
            raise _invalid(name, "must be a list of what to add")
        values[name] = [*values[name], *(one for one in added if one not in values[name])]
    try:
        plan = kind.plan.model_validate(values)
    except ValidationError as error:
        errors = field_errors(error)
        raise InvalidInputError(errors[0]["message"], errors) from None
    study.plan = plan.model_dump(mode="json")
    study.messages = list(wanted_of(session, study, runs_of(session, study_id)).messages)
    _reopen(study)
    session.flush()
    return study


def delete(session: Session, study_id: int, *, with_runs: bool) -> list[int]:
    """Delete a study; returns the ids of the runs that were deleted with it.

    Raises:
        NotFoundError: no such study.
        ConflictError: it has not ended, or one of the runs cannot be deleted.
    """
    study = require_study(session, study_id, lock=True)
    if study.status in UNFINISHED:
        raise ConflictError(f"Study {study_id} is {study.status}. Cancel it first.")
    made = [run.id for run in runs_of(session, study_id)] if with_runs else []
    session.delete(study)
    session.flush()
    # The newest first: later runs start from the models of earlier ones.
    for run_id in reversed(made):
        runs.delete(session, run_id)
    return made


def models_of(session: Session, study_id: int) -> dict[int, int]:
    """run id → bytes on disk, of the study's runs that keep a trained model."""
    sizes = {
        run.id: result_bytes(run.id)
        for run in runs_of(session, study_id)
        if run.status == "succeeded"
    }
    return {run_id: size for run_id, size in sizes.items() if size}


def check_models_removal(session: Session, study_id: int) -> dict[int, int]:
    """The models that can be removed, as `models_of`.

    Raises:
        NotFoundError: no such study.
        ConflictError: it has not ended, or an unfinished run starts from one of them.
    """
    study = require_study(session, study_id, lock=True)
    if study.status in UNFINISHED:
        raise ConflictError(
            f"Study {study_id} is {study.status}: its runs may need each other's models. Wait for "
            "its end, or cancel it first."
        )
    found = models_of(session, study_id)
    for run_id in sorted(found):
        runs.check_model_removal(session, run_id)
    return found


def study_of(session: Session, run_id: int) -> Study | None:
    """The study that made a run."""
    return session.scalar(
        select(Study).join(StudyRun, StudyRun.study_id == Study.id).where(StudyRun.run_id == run_id)
    )
