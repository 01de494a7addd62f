"""Creating, renaming, cancelling, resuming and deleting a run.

Each function works in the caller's transaction and increments the run's revision where a page
should see the change. Notifying workers and pages is the caller's task, after its commit.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from app.core.errors import ConflictError
from app.core.settings import get_settings
from app.models.queries import check_model_exists, check_revision
from app.runs.capacity import warning
from app.runs.schemas import MAX_NAME, NewRun
from app.runs.selection_text import selection_text
from app.runs.validation import (
    check_config,
    check_count,
    check_filter,
    check_forecast_run,
    check_offsets,
    check_pairs,
    check_selection,
    check_weights,
    invalid_field,
    listed,
    lock_dataset,
    require_answers,
)
from app.runs.weights import result_folder
from app.store.datasets import Dataset
from app.store.lookup import require_run
from app.store.revisions import next_revision
from app.store.runs import EXTERNAL, FINAL, Run
from app.store.selection import copy_selection, record_selection
from app.store.shards import claims
from chesboard.configs import (
    MAX_PREFLIGHT_PAIRS,
    JudgeConfig,
    ModelConfig,
    ObjectiveConfig,
    PreflightConfig,
    RunConfig,
    Selection,
    TrainConfig,
)
from chesboard.configs.objective import notices


def create(session: Session, wanted: NewRun) -> Run:
    """Store a queued run with its full configuration.

    Raises:
        InvalidInputError: the dataset, the model, a setting or a named pair does not exist or
            is out of bounds; names the field.
        ConflictError: the queue is full.
    """
    if wanted.dataset_id is None:
        raise invalid_field("dataset_id", "Field required")
    for name in ("key", "dataset_sha256"):
        if getattr(wanted, name) is not None:
            raise invalid_field(name, f"only an external run has one, not a {wanted.kind} run")
    check_queue(session)
    config = check_config(wanted.kind, wanted.config)
    if isinstance(config, ModelConfig):
        # Before the lock: looking through the models folder may take a while, on a network drive.
        check_model_exists(session, config.model)
        check_revision(session, config.model, config.revision)
    if isinstance(config, TrainConfig):
        check_filter(config)
    dataset = lock_dataset(session, wanted.dataset_id)
    answers = None
    if isinstance(config, JudgeConfig):
        answers = require_answers(session, dataset, config)
    if isinstance(config, TrainConfig):
        check_pairs(session, dataset, config.probes.pairs, "config.probes.pairs")
        check_forecast_run(session, dataset, config)
        check_weights(session, dataset, config.pair_weights)
    selection = getattr(config, "selection", Selection())
    check_selection(session, dataset, selection, "config.selection")
    if isinstance(config, PreflightConfig):
        check_count(session, dataset, config.selection, MAX_PREFLIGHT_PAIRS, "config.selection")
    messages = [*notices(config)] if isinstance(config, ObjectiveConfig) else []
    if too_large := warning(session, config, dataset):
        messages.append(too_large)
    run = Run(
        kind=wanted.kind,
        name=wanted.name or _default_name(wanted.kind, config, dataset, answers),
        dataset_id=dataset.id,
        config=config.model_dump(mode="json"),
        progress_unit=_PROGRESS_UNITS.get(wanted.kind, "pairs"),
        messages=messages,
        revision=1,
    )
    session.add(run)
    session.flush()
    if answers is not None:
        copy_selection(session, answers.id, run.id)
    else:
        # Recorded now, so that the run trains on the pairs that its user saw in the preview.
        record = record_selection(session, run.id, dataset.id, selection)
        if isinstance(config, ObjectiveConfig) and record is not None:
            check_offsets(session, dataset, config, record.pairs)
    session.refresh(run)
    return run


def rename(session: Session, run_id: int, name: str) -> Run:
    """Raises:
    NotFoundError: no such run.
    """
    run = require_run(session, run_id, lock=True)
    run.name = name
    return _changed(session, run)


def cancel(session: Session, run_id: int) -> Run:
    """Cancel a queued run at once; ask the worker of a running one to stop within a step, and the
    trainer of an external one to stop if its user lets it.

    Raises:
        NotFoundError: no such run.
        ConflictError: it has succeeded or failed.
    """
    run = require_run(session, run_id, lock=True)
    is_asked = run.cancel_requested and run.status not in (*FINAL, "queued")
    if run.status == "cancelled" or is_asked:
        return run
    if run.status in FINAL:
        raise ConflictError(f"Run {run_id} has {run.status}; there is nothing left to cancel.")
    run.cancel_requested = True
    if run.status == "queued":
        run.status = "cancelled"
        run.finished_at = func.clock_timestamp()
    return _changed(session, run)


def resume(session: Session, run_id: int) -> Run:
    """Queue a failed or cancelled run again, to continue from its last checkpoint.

    Raises:
        NotFoundError: no such run.
        ConflictError: it is neither failed nor cancelled, or the queue is full.
    """
    run = require_run(session, run_id, lock=True)
    if run.kind == EXTERNAL:
        raise ConflictError(
            f"Run {run_id} is trained elsewhere. Resume its training there: it goes on here."
        )
    if run.status not in ("failed", "cancelled"):
        raise ConflictError(
            f"Run {run_id} is {run.status}; only a failed or cancelled run can be resumed."
        )
    check_queue(session)
    run.status = "queued"
    run.cancel_requested = False
    run.error = None
    run.finished_at = None
    run.eta_seconds = None
    # Somebody decided to retry: the worker counts its attempts from zero again.
    run.attempts = run.tries_here = 0
    claims.allow_again(session, run.id)
    return _changed(session, run)


def delete(session: Session, run_id: int) -> None:
    """Delete a run and all its records. The caller deletes its folder after the commit.

    Raises:
        NotFoundError: no such run.
        ConflictError: a worker runs it, its answers are judged, or an unfinished run uses its
            result as the model or its scores as weights.
    """
    run = require_run(session, run_id, lock=True)
    if run.status == "running" and run.kind != EXTERNAL:
        raise ConflictError(f"Run {run_id} is running. Cancel it first, then delete it.")
    _check_no_run_needs_model(session, run_id)
    judged = _runs_that(
        session, Run.kind == "judge", Run.config["generate_run"].astext == str(run_id)
    )
    if judged:
        raise ConflictError(
            f"The answers of run {run_id} are judged by {listed('run', judged)}, whose page "
            "shows them. Delete the judge first."
        )
    weighed = _runs_that(
        session,
        _IS_UNFINISHED,
        Run.config["pair_weights"]["score_run"].astext == str(run_id),
    )
    if weighed:
        raise ConflictError(
            f"The scores of run {run_id} are the weights of the pairs of {listed('run', weighed)}, "
            "which has not finished. Wait for it or cancel it first."
        )
    session.delete(run)


def check_model_removal(session: Session, run_id: int) -> None:
    """Check that a run's model can be removed while the run stays.

    Raises:
        NotFoundError: no such run, or it has no model.
        ConflictError: it has not finished, or an unfinished run starts from its model.
    """
    result_folder(require_run(session, run_id, lock=True))
    _check_no_run_needs_model(session, run_id)


def _check_no_run_needs_model(session: Session, run_id: int) -> None:
    named = Run.config["model"].astext == f"run:{run_id}"
    # What an external run calls its model is its own affair.
    trained = _runs_that(session, _IS_UNFINISHED, named, Run.id != run_id)
    if trained:
        raise ConflictError(
            f"The result of run {run_id} is the model of {listed('run', trained)}, which has "
            "not finished. Wait for it or cancel it first."
        )


_IS_UNFINISHED = and_(Run.status.not_in(FINAL), Run.kind != EXTERNAL)


def _runs_that(session: Session, *conditions: ColumnElement[bool]) -> Sequence[int]:
    return session.scalars(select(Run.id).where(*conditions).order_by(Run.id)).all()


def check_queue(session: Session) -> None:
    """Check that the queue has room for one more run.

    Raises:
        ConflictError: CHESBOARD_MAX_QUEUED_RUNS runs are queued.
    """
    waiting = session.scalar(select(func.count()).select_from(Run).where(Run.status == "queued"))
    if (waiting or 0) >= (limit := get_settings().max_queued_runs):
        raise ConflictError(
            f"{waiting} runs are queued, and the limit is {limit} "
            "(CHESBOARD_MAX_QUEUED_RUNS). Wait for some to finish, or cancel some."
        )


def _changed(session: Session, run: Run) -> Run:
    session.flush()
    next_revision(session, run.id)
    session.refresh(run)
    return run


_DEFAULT_NAMES = {
    "score": "CHES of",
    "evaluate": "Likelihoods of",
    "check": "Check of",
    "preflight": "Pre-flight of",
    "generate": "Answers to",
}


_PROGRESS_UNITS = {"train": "steps", "generate": "answers", "judge": "answers"}


def _default_name(
    kind: str, config: RunConfig, dataset: Dataset, answers: Run | None = None
) -> str:
    if isinstance(config, JudgeConfig):
        of = dataset.name if answers is None else answers.name
        return f"{config.judged_by} on {of}"[:MAX_NAME]
    if not isinstance(config, TrainConfig):
        return f"{_DEFAULT_NAMES[kind]} {dataset.name}"
    # With the selection: runs that differ only in their pairs are told apart in a list.
    selection = selection_text(config.selection)
    name = f"{config.objective} on {dataset.name}" + (f", {selection}" if selection else "")
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
