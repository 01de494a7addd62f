"""Queries of measured displacement: trained pairs after a run, and their scores before it."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from app.core.csv import csv_line
from app.core.errors import InvalidInputError, NotFoundError
from app.core.nonfinite import finite_or_none
from app.displacement.schemas import Displaced, DisplacementList, MeasuredRun, MeasuredRunList
from app.scores.queries import require_scores
from app.store.lookup import require_run
from app.store.runs import TRAINING, ReferenceLogprob, Run
from app.store.scores import Score
from chesboard.measures.registry import MeasureName
from chesboard.probing.ranks import spearman_of
from chesboard.records import displaced as is_displaced


def get_displacement(
    session: Session, run_id: int, score_run: int | None = None, measure: MeasureName = "ches"
) -> DisplacementList:
    """The displacement of each pair of a training run, with its score.

    score_run: default: the newest succeeded one over the same dataset.

    Raises:
        NotFoundError: no such run, or it is not a training run.
        InvalidInputError: score_run is not a score run over the same dataset.
    """
    run = _require_training(session, run_id)
    scored = _score_run(session, run, score_run)
    total = session.scalar(select(func.count()).where(ReferenceLogprob.run_id == run_id)) or 0
    items = [_displaced(row) for row in _rows(session, run_id, scored, measure)]
    agreement, compared = spearman_of(
        [item.value for item in items], [item.preferred_change for item in items]
    )
    return DisplacementList(
        total=total,
        measured=len(items),
        items=items,
        spearman=agreement,
        n=compared,
        measure=measure,
        score_run=scored,
    )


def export_displacement(found: DisplacementList) -> Iterator[str]:
    """Lines of CSV, header first; a number that is not finite is an empty field."""
    names = list(Displaced.model_fields)
    yield csv_line([found.measure if name == "value" else name for name in names])
    for item in found.items:
        yield csv_line([getattr(item, name) for name in names])


def list_measured_runs(session: Session, score_run: int) -> MeasuredRunList:
    """Training runs over the dataset of a score run whose displacement was measured.

    Raises:
        NotFoundError: no such run, or it is not a score run.
    """
    dataset_id = require_scores(session, score_run).dataset_id
    found = session.execute(
        select(Run.id, Run.name, func.count())
        .join(ReferenceLogprob, ReferenceLogprob.run_id == Run.id)
        .where(Run.dataset_id == dataset_id, ReferenceLogprob.final_preferred.is_not(None))
        .group_by(Run.id)
        .order_by(Run.id.desc())
    )
    return MeasuredRunList(
        items=[MeasuredRun(run_id=run, name=name, measured=count) for run, name, count in found]
    )


def _require_training(session: Session, run_id: int) -> Run:
    run = require_run(session, run_id)
    if run.kind not in TRAINING:
        raise NotFoundError(f"Run {run_id} is not a training run, so it has no displacement.")
    return run


def _score_run(session: Session, run: Run, wanted: int | None) -> int | None:
    if wanted is None:
        return session.scalar(
            select(Run.id)
            .where(Run.dataset_id == run.dataset_id, Run.kind == "score", Run.status == "succeeded")
            .order_by(Run.id.desc())
            .limit(1)
        )
    try:
        scored = require_run(session, wanted)
    except NotFoundError as error:
        raise _wrong_run(str(error)) from None
    if scored.kind != "score":
        raise _wrong_run(f"Run {wanted} is not a score run.")
    if scored.dataset_id != run.dataset_id:
        raise _wrong_run(
            f"Run {wanted} scored dataset {scored.dataset_id}, but run {run.id} trained on "
            f"dataset {run.dataset_id}."
        )
    return wanted


def _wrong_run(message: str) -> InvalidInputError:
    return InvalidInputError(message, [{"field": "score_run", "message": message}])


def _rows(session: Session, run_id: int, scored: int | None, measure: MeasureName) -> Sequence[Any]:
    ours = and_(Score.run_id == scored, Score.pair == ReferenceLogprob.pair)
    return session.execute(
        select(
            ReferenceLogprob.pair,
            (ReferenceLogprob.final_preferred - ReferenceLogprob.preferred).label("preferred"),
            (ReferenceLogprob.final_dispreferred - ReferenceLogprob.dispreferred).label(
                "dispreferred"
            ),
            getattr(Score, measure).label("value"),
        )
        .outerjoin(Score, ours)
        .where(ReferenceLogprob.run_id == run_id, ReferenceLogprob.final_preferred.is_not(None))
        .order_by(ReferenceLogprob.pair)
    ).all()


def _displaced(row: Any) -> Displaced:
    return Displaced(
        pair=row.pair,
        preferred_change=finite_or_none(row.preferred),
        dispreferred_change=finite_or_none(row.dispreferred),
        displaced=is_displaced(row.preferred, row.dispreferred),
        value=finite_or_none(row.value),
    )
