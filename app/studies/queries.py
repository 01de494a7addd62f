"""Reading studies: their progress, runs and results."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.nonfinite import nonfinite_to_none
from app.core.paging import PAGE_SIZE
from app.store.datasets import Dataset
from app.store.runs import Run
from app.store.studies import Study, StudyRun
from app.studies.engine import result_of, runs_of, wanted_of
from app.studies.estimates import count_workers, estimate, time_left, too_large
from app.studies.figures import figures
from app.studies.kinds import KINDS, kind_of
from app.studies.plans import MadeRun, Plan
from app.studies.requests import complete, models_of, require_study
from app.studies.results import Result
from app.studies.schemas import (
    KindOut,
    StudyModels,
    StudyOut,
    StudyPage,
    StudyPreview,
    StudyProgress,
    StudyRunOut,
    StudySummary,
)

PORTABLE_WITHOUT = ("score_run",)
"""Fields of a plan that name what only this server has."""
MAX_CACHED = 32


def list_kinds() -> list[KindOut]:
    return [
        KindOut(name=kind.name, label=kind.label, about=kind.about, grows=list(kind.grows))
        for kind in KINDS.values()
    ]


def list_studies(session: Session, limit: int = PAGE_SIZE, offset: int = 0) -> StudyPage:
    """A page of studies, newest first."""
    total = session.scalar(select(func.count()).select_from(Study)) or 0
    found = session.scalars(select(Study).order_by(Study.id.desc()).limit(limit).offset(offset))
    return StudyPage(total=total, items=[summarize(session, study) for study in found])


def get_study(session: Session, study_id: int) -> StudyOut:
    """Raises:
    NotFoundError: no such study.
    """
    study = require_study(session, study_id)
    summary = summarize(session, study)
    result = current_result(session, study)
    models = models_of(session, study_id)
    return StudyOut(
        **summary.model_dump(),
        plan=study.plan,
        runs=_runs(session, study_id),
        result=result,
        figures=figures(study.kind, result) if result else [],
        models=StudyModels(runs=len(models), bytes=sum(models.values())),
    )


def summarize(session: Session, study: Study) -> StudySummary:
    made = runs_of(session, study.id)
    dataset_id = study.plan["dataset_id"]
    return StudySummary(
        id=study.id,
        kind=study.kind,
        kind_label=kind_of(study.kind).label if study.kind in KINDS else study.kind,
        name=study.name,
        status=study.status,
        dataset_id=dataset_id,
        dataset_name=session.scalar(select(Dataset.name).where(Dataset.id == dataset_id)),
        model=study.plan["model"],
        messages=study.messages,
        error=study.error,
        progress=_progress(session, study, made),
        created_at=study.created_at,
        finished_at=study.finished_at,
    )


def _progress(session: Session, study: Study, made: Sequence[MadeRun]) -> StudyProgress:
    is_open = study.status in ("queued", "running")
    total = wanted_of(session, study, made).total if is_open else len(made)
    count = {
        status: sum(run.status == status for run in made)
        for status in ("succeeded", "failed", "cancelled", "running")
    }
    return StudyProgress(
        total=max(total, len(made)),
        made=len(made),
        eta_seconds=time_left(session, study.id, made, total) if is_open else None,
        **count,
    )


def _runs(session: Session, study_id: int) -> list[StudyRunOut]:
    rows = session.execute(
        select(
            Run.id.label("run_id"),
            Run.status,
            Run.name,
            StudyRun.cell,
            StudyRun.seed,
            StudyRun.role,
            StudyRun.made_dataset_id,
        )
        .join(StudyRun, StudyRun.run_id == Run.id)
        .where(StudyRun.study_id == study_id)
        .order_by(Run.id)
    )
    return [StudyRunOut(**row._asdict()) for row in rows]


_results: OrderedDict[tuple[Any, ...], Result] = OrderedDict()
_lock = Lock()


def current_result(session: Session, study: Study) -> Result | None:
    """The stored result of a study that has ended, else the result so far.

    The latter is cached by the runs' statuses: pages ask for it every few seconds.
    """
    if study.result is not None:
        return Result.model_validate(study.result)
    made = runs_of(session, study.id)
    if not any(run.status == "succeeded" for run in made):
        return None
    key = (study.id, study.created_at, str(study.plan), *((run.id, run.status) for run in made))
    with _lock:
        if key in _results:
            return _results[key]
    plain = nonfinite_to_none(result_of(session, study).model_dump(mode="json"))
    found = Result.model_validate(plain)
    with _lock:
        _results[key] = found
        while len(_results) > MAX_CACHED:
            _results.popitem(last=False)
    return found


def portable_plan(study: Study) -> dict[str, Any]:
    """The plan as another person can run it: without what names rows of this server."""
    plan = {name: value for name, value in study.plan.items() if name not in PORTABLE_WITHOUT}
    return {**plan, "name": study.name}


def preview(session: Session, plan: Plan) -> StudyPreview:
    """What a plan would come to; stores nothing.

    Raises:
        InvalidInputError: names the field of the plan.
    """
    full, _ = complete(session, plan)
    values = full.model_dump(mode="json")
    study = Study(kind=values["kind"], plan=values)
    wanted = wanted_of(session, study, [])
    expected = estimate(session, full.model, wanted.runs, wanted.total)
    return StudyPreview(
        runs=wanted.total,
        messages=[*wanted.messages, *too_large(session, full.dataset_id, wanted.runs)],
        seconds=expected.seconds,
        workers=count_workers(session),
        basis=expected.basis,
        plan=values,
    )
