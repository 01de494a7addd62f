"""What people ask of a run: create, rename, cancel, resume, delete.

Each function works in the caller's transaction and bumps the run's revision where a page should
see the change. Telling the workers and the pages is the caller's, after its commit.
"""

import math
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.errors import ConflictError, ErrorItem, InvalidInputError, field_errors
from app.core.settings import get_settings
from app.core.text import storable
from app.models.queries import check_model_exists
from app.runs.schemas import FINAL, NewRun
from app.runs.wording import in_words
from app.store.datasets import Dataset, Pair
from app.store.lookup import require_run
from app.store.revisions import next_revision
from app.store.runs import Run
from app.store.selection import record_selection
from chesboard.configs import CONFIGS, MeasureRule, ModelConfig, Rules, Selection, TrainConfig

MAX_PAIRS_NAMED = 10
LONGEST_NAME = 200


def create(session: Session, wanted: NewRun) -> Run:
    """Store a queued run with its full configuration.

    Raises:
        InvalidInputError: the dataset, the model, a setting or a named pair does not exist or
            is out of bounds; names the field.
    """
    check_queue(session)
    config = _checked_config(wanted.kind, wanted.config)
    dataset = _dataset(session, wanted.dataset_id)
    check_model_exists(session, config.model)
    if isinstance(config, TrainConfig):
        _check_pairs(session, dataset, config.probes.pairs, "config.probes.pairs")
        check_selection(session, dataset, config.selection, "config.selection")
    run = Run(
        kind=wanted.kind,
        name=wanted.name or _default_name(config, dataset),
        dataset_id=dataset.id,
        config=config.model_dump(mode="json"),
        progress_unit="steps" if isinstance(config, TrainConfig) else "pairs",
        revision=1,
    )
    session.add(run)
    session.flush()
    # Decided now, so that the run has the pairs that its user was told of.
    selection = config.selection if isinstance(config, TrainConfig) else Selection()
    record_selection(session, run.id, dataset.id, selection)
    session.refresh(run)
    return run


def rename(session: Session, run_id: int, name: str) -> Run:
    run = require_run(session, run_id, lock=True)
    run.name = name
    return _changed(session, run)


def cancel(session: Session, run_id: int) -> Run:
    """A queued run is cancelled at once; a running one is told, and stops within a step.

    Raises:
        ConflictError: it has finished.
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
    """Queue a failed or cancelled run again; it goes on from its last checkpoint.

    Raises:
        ConflictError: it is neither failed nor cancelled.
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
    # A person looked at it: it gets all its tries again.
    run.attempts = run.tries_here = 0
    return _changed(session, run)


def delete(session: Session, run_id: int) -> None:
    """Delete a run and all that it recorded; its folder is the caller's, after the commit.

    Raises:
        ConflictError: it is running, or an unfinished run is to start from its result.
    """
    run = require_run(session, run_id, lock=True)
    if run.status == "running":
        raise ConflictError(f"Run {run_id} is running. Cancel it first, then delete it.")
    users = session.scalars(
        select(Run.id)
        .where(
            Run.status.not_in(FINAL),
            Run.config["model"].astext == f"run:{run_id}",
            Run.id != run_id,
        )
        .order_by(Run.id)
    ).all()
    if users:
        raise ConflictError(
            f"The result of run {run_id} is the model of {_listed('run', users)}, not finished "
            "yet. Wait for it or cancel it first."
        )
    session.delete(run)


def check_queue(session: Session) -> None:
    """See that one more run may wait.

    Raises:
        ConflictError: as many as the settings allow are waiting already.
    """
    waiting = session.scalar(select(func.count()).select_from(Run).where(Run.status == "queued"))
    if (waiting or 0) >= (most := get_settings().max_queued_runs):
        raise ConflictError(
            f"{waiting} runs wait already, and this server lets {most} wait "
            "(CHESBOARD_MAX_QUEUED_RUNS). Wait for some to finish, or cancel some."
        )


def _changed(session: Session, run: Run) -> Run:
    session.flush()
    next_revision(session, run.id)
    session.refresh(run)
    return run


def _checked_config(kind: str, config: dict[str, Any]) -> ModelConfig:
    try:
        checked = CONFIGS[kind].model_validate(config)
    except ValidationError as error:
        raise _invalid(field_errors(error, prefix="config")) from None
    for name, value in checked.model_dump(mode="json").items():
        _check_storable(f"config.{name}", value)
    return checked


def _check_storable(field: str, value: Any) -> None:
    """JSON in PostgreSQL has no NaN, no infinity and no U+0000."""
    try:
        for leaf in _leaves(value):
            if isinstance(leaf, str):
                storable(leaf)
            elif isinstance(leaf, float) and not math.isfinite(leaf):
                raise ValueError("must be a finite number")
    except ValueError as error:
        raise _invalid([{"field": field, "message": str(error)}]) from None


def _leaves(value: Any) -> Iterator[Any]:
    match value:
        case dict():
            for name, part in value.items():
                yield name
                yield from _leaves(part)
        case list():
            for part in value:
                yield from _leaves(part)
        case _:
            yield value


def _invalid(errors: list[ErrorItem]) -> InvalidInputError:
    if len(errors) == 1:
        return InvalidInputError(f"{errors[0].get('field')}: {errors[0]['message']}", errors)
    return InvalidInputError(f"{len(errors)} settings of the run are not right.", errors)


def _dataset(session: Session, dataset_id: int) -> Dataset:
    if not 0 < dataset_id < 2**63:
        found = None
    else:
        # Locked against deletion until the run that refers to it is stored.
        lock = {"read": True, "key_share": True}
        found = session.get(Dataset, dataset_id, with_for_update=lock)
    if found is None:
        raise _invalid([{"field": "dataset_id", "message": f"There is no dataset {dataset_id}."}])
    return found


def _check_pairs(
    session: Session, dataset: Dataset, pairs: Collection[int] | None, field: str
) -> None:
    if not pairs:
        return
    asked = [pair for pair in set(pairs) if pair < 2**31]
    there = session.scalars(
        select(Pair.pair).where(Pair.dataset_id == dataset.id, Pair.pair.in_(asked))
    )
    if missing := sorted(set(pairs) - set(there)):
        message = (
            f"The dataset has no {_listed('pair', missing)}; it has {dataset.pairs}, counted "
            "from 0."
        )
        raise _invalid([{"field": field, "message": message}])


def check_selection(session: Session, dataset: Dataset, rules: Rules, field: str) -> None:
    """Refuse a selection that names a pair or a score run that is not the dataset's.

    field: where the selection stands in the request, for example "config.selection".

    Raises:
        InvalidInputError: names the field below it.
    """
    _check_pairs(session, dataset, rules.pairs, f"{field}.pairs".lstrip("."))
    for number, rule in enumerate(rules.measures):
        if message := _wrong_score_run(session, dataset, rule):
            at = f"{field}.measures.{number}.score_run".lstrip(".")
            raise _invalid([{"field": at, "message": message}])
    if isinstance(rules, Selection) and rules.random and rules.random.same_size_as:
        check_selection(
            session, dataset, rules.random.same_size_as, f"{field}.random.same_size_as".lstrip(".")
        )


def _wrong_score_run(session: Session, dataset: Dataset, rule: MeasureRule) -> str | None:
    run = session.get(Run, rule.score_run)
    if run is None:
        return f"There is no run {rule.score_run}."
    if run.kind == "train":
        return f"Run {run.id} is a training run; it has no scores."
    if run.dataset_id != dataset.id:
        return f"Run {run.id} scored dataset {run.dataset_id}, not {dataset.id}."
    if run.status != "succeeded":
        return f"Run {run.id} is {run.status}; wait until all of its pairs are scored."
    if run.kind == "evaluate" and not rule.measure.endswith("logprob"):
        return f"Run {run.id} is an evaluation; it has log-probabilities only."
    return None


def _listed(noun: str, numbers: Collection[int]) -> str:
    """(pair, [1, 2]) → "pairs 1, 2"."""
    shown = ", ".join(map(str, list(numbers)[:MAX_PAIRS_NAMED]))
    more = len(numbers) - MAX_PAIRS_NAMED
    return f"{noun}{'s' if len(numbers) > 1 else ''} {shown}" + (f" and {more} more" * (more > 0))


def _default_name(config: ModelConfig, dataset: Dataset) -> str:
    if isinstance(config, TrainConfig):
        # Runs that differ in their pairs alone are told apart where they stand side by side.
        words = in_words(config.selection)
        name = f"{config.objective} on {dataset.name}" + (f", {words}" if words else "")
        return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    kind = next(kind for kind, of in CONFIGS.items() if type(config) is of)
    return f"{'CHES' if kind == 'score' else 'Likelihoods'} of {dataset.name}"
