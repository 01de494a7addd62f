"""Creating, renaming, cancelling, resuming and deleting a run.

Each function works in the caller's transaction and increments the run's revision where a page
should see the change. Notifying workers and pages is the caller's task, after its commit.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.errors import ConflictError
from app.core.settings import get_settings
from app.models.queries import check_model_exists
from app.runs.schemas import MAX_NAME, NewRun
from app.runs.selection_text import selection_text
from app.runs.validation import check_config, check_pairs, check_selection, listed, lock_dataset
from app.store.datasets import Dataset
from app.store.lookup import require_run
from app.store.revisions import next_revision
from app.store.runs import FINAL, Run
from app.store.selection import record_selection
from chesboard.configs import ModelConfig, Selection, TrainConfig


def create(session: Session, wanted: NewRun) -> Run:
    """Store a queued run with its full configuration.

    Raises:
        InvalidInputError: the dataset, the model, a setting or a named pair does not exist or
            is out of bounds; names the field.
        ConflictError: the queue is full.
    """
    check_queue(session)
    config = check_config(wanted.kind, wanted.config)
    dataset = lock_dataset(session, wanted.dataset_id)
    check_model_exists(session, config.model)
    if isinstance(config, TrainConfig):
        check_pairs(session, dataset, config.probes.pairs, "config.probes.pairs")
        check_selection(session, dataset, config.selection, "config.selection")
    run = Run(
        kind=wanted.kind,
        name=wanted.name or _default_name(wanted.kind, config, dataset),
        dataset_id=dataset.id,
        config=config.model_dump(mode="json"),
        progress_unit="steps" if isinstance(config, TrainConfig) else "pairs",
        revision=1,
    )
    session.add(run)
    session.flush()
    # Recorded now, so that the run trains on the pairs that its user saw in the preview.
    selection = config.selection if isinstance(config, TrainConfig) else Selection()
    record_selection(session, run.id, dataset.id, selection)
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
    """Cancel a queued run at once; ask the worker of a running one to stop within a step.

    Raises:
        NotFoundError: no such run.
        ConflictError: it has succeeded or failed.
    """
    run = require_run(session, run_id, lock=True)
    if run.status == "cancelled" or (run.status == "running" and run.cancel_requested):
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
    return _changed(session, run)


def delete(session: Session, run_id: int) -> None:
    """Delete a run and all its records. The caller deletes its folder after the commit.

    Raises:
        NotFoundError: no such run.
        ConflictError: it is running, or an unfinished run uses its result as the model.
    """
    run = require_run(session, run_id, lock=True)
    if run.status == "running":
        raise ConflictError(f"Run {run_id} is running. Cancel it first, then delete it.")
    dependents = session.scalars(
        select(Run.id)
        .where(
            Run.status.not_in(FINAL),
            Run.config["model"].astext == f"run:{run_id}",
            Run.id != run_id,
        )
        .order_by(Run.id)
    ).all()
    if dependents:
        raise ConflictError(
            f"The result of run {run_id} is the model of {listed('run', dependents)}, which has "
            "not finished. Wait for it or cancel it first."
        )
    session.delete(run)


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


def _default_name(kind: str, config: ModelConfig, dataset: Dataset) -> str:
    if not isinstance(config, TrainConfig):
        return f"{'CHES' if kind == 'score' else 'Likelihoods'} of {dataset.name}"
    # With the selection: runs that differ only in their pairs are told apart in a list.
    selection = selection_text(config.selection)
    name = f"{config.objective} on {dataset.name}" + (f", {selection}" if selection else "")
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
