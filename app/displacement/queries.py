"""Queries of measured displacement: trained pairs after a run, and their scores before it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.csv import csv_line
from app.core.downsampling import pick_cloud
from app.core.errors import InvalidInputError, NotFoundError
from app.core.nonfinite import finite_or_none
from app.core.packed import Floats, Integers, read_columns
from app.core.paging import EXPORT_ROWS
from app.displacement.schemas import Displaced, DisplacementList, MeasuredRun, MeasuredRunList
from app.scores.queries import require_scores
from app.store.lookup import require_run
from app.store.runs import TRAINING, ReferenceLogprob, Run
from app.store.scores import Score
from chesboard.measures.registry import MeasureName
from chesboard.probing.ranks import spearman_of
from chesboard.records import displaced as is_displaced


@dataclass(frozen=True, slots=True)
class Displacement:
    """The measured pairs of a training run by ordinal, each with its score; NaN: not known."""

    pairs: Integers
    preferred_changes: Floats
    dispreferred_changes: Floats
    values: Floats

    def items(self, places: Sequence[int] | slice = slice(None)) -> Iterator[Displaced]:
        """The pairs at these places."""
        columns = (self.pairs, self.preferred_changes, self.dispreferred_changes, self.values)
        for row in zip(*(column[places].tolist() for column in columns), strict=True):
            yield _displaced(*row)


def get_displacement(
    session: Session,
    run_id: int,
    score_run: int | None = None,
    measure: MeasureName = "ches",
    points: int | None = None,
) -> DisplacementList:
    """The displacement of each pair of a training run, or of about `points` of them, with its
    score.

    score_run: default: the newest succeeded one over the same dataset.

    Raises:
        NotFoundError: no such run, or it is not a training run.
        InvalidInputError: score_run is not a score run over the same dataset.
    """
    run = _require_training(session, run_id)
    scored = _score_run(session, run, score_run)
    total = session.scalar(select(func.count()).where(ReferenceLogprob.run_id == run_id)) or 0
    found = _read(session, run_id, scored, measure)
    measured = len(found.pairs)
    agreement, compared = spearman_of(found.values, found.preferred_changes)
    series = (found.values, found.preferred_changes)
    kept = slice(None) if points is None else pick_cloud(measured, series, points)
    items = list(found.items(kept))
    return DisplacementList(
        total=total,
        measured=measured,
        items=items,
        decimated=len(items) < measured,
        spearman=agreement,
        n=compared,
        measure=measure,
        score_run=scored,
    )


def export_displacement(
    session: Session, run_id: int, score_run: int | None, measure: MeasureName
) -> Iterator[str]:
    """Lines of CSV, header first; a number that is not finite is an empty field. All that they say
    is read before the first of them.

    Raises:
        NotFoundError, InvalidInputError: as get_displacement.
    """
    scored = _score_run(session, _require_training(session, run_id), score_run)
    return _lines(_read(session, run_id, scored, measure), measure)


def _lines(found: Displacement, measure: MeasureName) -> Iterator[str]:
    names = list(Displaced.model_fields)
    yield csv_line([measure if name == "value" else name for name in names])
    for start in range(0, len(found.pairs), EXPORT_ROWS):
        part = found.items(slice(start, start + EXPORT_ROWS))
        yield "".join(csv_line([getattr(item, name) for name in names]) for item in part)


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


def _read(session: Session, run_id: int, scored: int | None, measure: MeasureName) -> Displacement:
    query = select(
        ReferenceLogprob.pair,
        (ReferenceLogprob.final_preferred - ReferenceLogprob.preferred).label("preferred"),
        (ReferenceLogprob.final_dispreferred - ReferenceLogprob.dispreferred).label("dispreferred"),
    ).where(ReferenceLogprob.run_id == run_id, ReferenceLogprob.final_preferred.is_not(None))
    pairs, (preferred, dispreferred) = read_columns(session, query)
    before, (values,) = read_columns(
        session, select(Score.pair, getattr(Score, measure)).where(Score.run_id == scored)
    )
    # Joined here: PostgreSQL takes longer over it than over both tables.
    _, of_pairs, of_before = np.intersect1d(pairs, before, True, return_indices=True)
    beside = np.full(len(pairs), np.nan)
    beside[of_pairs] = values[of_before]
    return Displacement(pairs, preferred, dispreferred, beside)


def _displaced(pair: int, preferred: float, dispreferred: float, value: float) -> Displaced:
    return Displaced(
        pair=pair,
        preferred_change=finite_or_none(preferred),
        dispreferred_change=finite_or_none(dispreferred),
        displaced=is_displaced(preferred, dispreferred),
        value=finite_or_none(value),
    )
