"""Moves studies forward: makes the runs that a plan asks for, datasets of what they answered, and
the result once all have ended.

A step is a function of the plan and of its runs (`decide`), taken under the study's row lock and
committed with what it made: a crash loses or doubles nothing, and the next sweep goes on. Two web
processes never take the same study at the same time.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.broker import enqueue
from app.core.database import transaction
from app.core.errors import ChesboardError, ConflictError
from app.core.nonfinite import nonfinite_to_none
from app.judgments.pairs import make_pairs
from app.runs import requests
from app.runs.schemas import NewRun
from app.runs.validation import listed
from app.store.runs import Run
from app.store.studies import Study, StudyRun
from app.studies.kinds import kind_of
from app.studies.plans import MAX_RUNS, MadeRun, Place, PlannedPairs, PlannedRun, Wanted
from app.studies.results import Result
from chesboard.formats.errors import FormatError

MAX_WAITING = 16
"""Most runs of a study that wait for a worker at a time, so that others' runs get their turn."""
HOPELESS = 3
"""So many failed runs and none that succeeded: no more are made."""

UNFINISHED = ("queued", "running")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step of a study. status: how it ends; None while it goes on."""

    create: Sequence[PlannedRun] = field(default_factory=list)
    status: str | None = None
    error: str | None = None


def decide(wanted: Wanted, made: Sequence[MadeRun]) -> Decision:
    """Which runs to make now, or how the study ends.

    A failed or cancelled run does not stop the others; the study ends as failed once none is left
    to make or to wait for.
    """
    places = {run.place for run in made}
    missing = [run for run in wanted.runs if run.place not in places]
    lost = [run for run in made if run.status in ("failed", "cancelled")]
    waiting = sum(run.status == "queued" for run in made)
    failed = sum(run.status == "failed" for run in made)
    is_hopeless = failed >= HOPELESS and not any(run.status == "succeeded" for run in made)
    if missing and not is_hopeless:
        return Decision(missing[: max(0, MAX_WAITING - waiting)])
    if any(not run.is_final for run in made):
        return Decision()
    if lost:
        return Decision(status="failed", error=_lost(lost))
    if not wanted.is_all or not made:
        return Decision(status="failed", error="The plan asks for no run that can be made.")
    return Decision(status="succeeded")


def _lost(lost: Sequence[MadeRun]) -> str:
    ids = [run.id for run in lost]
    return (
        f"{len(ids)} of the study's runs failed or {'was' if len(ids) == 1 else 'were'} cancelled: "
        f"{listed('run', ids)}. Resume the study to take {'it' if len(ids) == 1 else 'them'} up "
        "again."
    )


def advance_all() -> None:
    """Take the next step of every unfinished study that no other process is at."""
    last = 0
    while True:
        with transaction() as session:
            study = session.scalar(
                select(Study)
                .where(Study.status.in_(UNFINISHED), Study.id > last)
                .order_by(Study.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            if study is None:
                return
            last = study.id
            created = _step(session, study)
        _announce(created)


def advance(study_id: int) -> None:
    """Take the next step of one study, unless it has ended or another process is at it."""
    with transaction() as session:
        study = session.scalar(
            select(Study)
            .where(Study.id == study_id, Study.status.in_(UNFINISHED))
            .with_for_update(skip_locked=True)
        )
        created = [] if study is None else _step(session, study)
    _announce(created)


def _announce(created: Sequence[int]) -> None:
    for run_id in created:
        enqueue(run_id)  # a message that is lost here is sent again by the sweeper


def _step(session: Session, study: Study) -> list[int]:
    """Returns the ids of the runs that were made."""
    created: list[int] = []
    try:
        # A savepoint: an error of one study is stored with it and stops no other.
        with session.begin_nested():
            made = runs_of(session, study.id)
            wanted = wanted_of(session, study, made)
            if wanted.pairs is not None:
                _make_pairs(session, study, wanted.pairs)
                made = runs_of(session, study.id)
                wanted = wanted_of(session, study, made)
            decision = decide(wanted, made)
            study.messages = list(wanted.messages)
            for planned in decision.create:
                if not _queue_has_room(session):
                    break
                created.append(_create(session, study, planned))
            if created:
                study.status = "running"
            if decision.status is not None:
                _finish(session, study, decision)
    except ChesboardError as error:
        log.warning("study %s failed: %s", study.id, error)
        return _fail(session, study, error.detail)
    except SQLAlchemyError:
        raise  # the database is away: the next sweep tries again
    except Exception as error:
        # Whatever is wrong with one study must not hold up the others.
        log.exception("study %s failed", study.id)
        return _fail(session, study, f"{type(error).__name__}: {error}. This is probably a bug.")
    return created


def _fail(session: Session, study: Study, error: str) -> list[int]:
    study.status, study.error = "failed", error
    study.finished_at = func.clock_timestamp()
    session.flush()
    return []


def _queue_has_room(session: Session) -> bool:
    try:
        requests.check_queue(session)
    except ConflictError:
        return False
    return True


def _make_pairs(session: Session, study: Study, planned: PlannedPairs) -> None:
    """Makes the dataset and records it with the run, both or none of it: under the study's lock,
    so a dataset that is recorded is not made again."""
    place = session.get_one(StudyRun, (study.id, planned.judge_run))
    try:
        dataset_id = make_pairs(session, planned.judge_run, planned.request).dataset_id
    except FormatError as error:
        raise ConflictError(str(error)) from None
    place.made_dataset_id = dataset_id
    session.flush()


def _create(session: Session, study: Study, planned: PlannedRun) -> int:
    wanted = NewRun(
        kind=planned.kind,
        dataset_id=planned.dataset_id or study.plan["dataset_id"],
        name=planned.name,
        config=dict(planned.config),
    )
    run = requests.create(session, wanted)
    session.add(StudyRun(study_id=study.id, run_id=run.id, **planned.place._asdict()))
    session.flush()
    return run.id


def _finish(session: Session, study: Study, decision: Decision) -> None:
    assert decision.status is not None
    study.status, study.error = decision.status, decision.error
    if any(run.status == "succeeded" for run in runs_of(session, study.id)):
        study.result = nonfinite_to_none(result_of(session, study).model_dump(mode="json"))
    study.finished_at = func.clock_timestamp()
    session.flush()


def runs_of(session: Session, study_id: int) -> list[MadeRun]:
    """The runs that a study has made, in their order."""
    rows = session.execute(
        select(
            Run.id,
            Run.status,
            *(StudyRun.cell, StudyRun.seed, StudyRun.role, StudyRun.made_dataset_id),
        )
        .join(StudyRun, StudyRun.run_id == Run.id)
        .where(StudyRun.study_id == study_id)
        .order_by(Run.id)
    )
    return [
        MadeRun(row.id, Place(row.cell, row.seed, row.role), row.status, row.made_dataset_id)
        for row in rows
    ]


def wanted_of(session: Session, study: Study, made: Sequence[MadeRun]) -> Wanted:
    """Raises:
    ChesboardError: the plan cannot be carried out; the message says why.
    """
    kind = kind_of(study.kind)
    wanted = kind.wanted(session, kind.plan.model_validate(study.plan), made)
    if wanted.total > MAX_RUNS:
        raise ConflictError(
            f"The plan comes to {wanted.total:,} runs; {MAX_RUNS:,} is the most. Choose fewer "
            "cells or seeds."
        )
    return wanted


def result_of(session: Session, study: Study) -> Result:
    """The result so far, of the runs that have succeeded."""
    kind = kind_of(study.kind)
    return kind.result(session, kind.plan.model_validate(study.plan), runs_of(session, study.id))
