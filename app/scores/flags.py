"""The queue of a dataset's pairs flagged for review: replacing, reading and emptying it.

Pairs without a finite value of the measure are never flagged.
"""

import math
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, insert, literal, select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.errors import ConflictError, InvalidInputError
from app.scores.schemas import LOW_IS_SIMILAR, FlagOut, FlagQueue, FlagRequest
from app.store.lookup import find_run, require_dataset, there_is_no
from app.store.scores import Flag, Score, finite
from chesboard.measures.registry import SIMILARITY_MEASURES, SimilarityMeasureName

MAX_PAIRS_NAMED = 10


def flag_pairs(session: Session, dataset_id: int, wanted: FlagRequest) -> FlagQueue:
    """Replace the dataset's queue by the pairs that the request selects.

    Raises:
        NotFoundError: no such dataset.
        InvalidInputError: score_run is not a score run over this dataset, or a named pair has no
            finite value in it.
        ConflictError: score_run has not succeeded.
    """
    # The lock serializes requests that replace the same queue.
    require_dataset(session, dataset_id, lock=True)
    _check_score_run(session, dataset_id, wanted.score_run)
    value = finite(wanted.measure)
    order = value.asc() if wanted.measure in LOW_IS_SIMILAR else value.desc()
    scored = (
        select(
            literal(dataset_id),
            Score.pair,
            literal(wanted.score_run),
            literal(wanted.measure),
            value,
        )
        .where(Score.run_id == wanted.score_run, value.is_not(None))
        .order_by(order, Score.pair)
    )
    if wanted.pairs is not None:
        _check_scored(session, wanted.pairs, scored.subquery())
    session.execute(delete(Flag).where(Flag.dataset_id == dataset_id))
    columns = ["dataset_id", "pair", "score_run", "measure", "value"]
    chosen = _choose(session, scored, value, wanted)
    session.execute(insert(Flag).from_select(columns, chosen))
    return get_queue(session, dataset_id)


def _choose(
    session: Session,
    scored: Select[*tuple[Any, ...]],
    value: ColumnElement[Any],
    wanted: FlagRequest,
) -> Select[*tuple[Any, ...]]:
    """The rows that the request selects, of all scored ones in the order of the queue."""
    if wanted.pairs is not None:
        return scored.where(among(Score.pair, wanted.pairs))
    if wanted.top_fraction is None:
        if wanted.measure in LOW_IS_SIMILAR:
            return scored.where(value <= wanted.threshold)
        return scored.where(value >= wanted.threshold)
    count = session.scalar(select(func.count()).select_from(scored.subquery())) or 0
    # Rounded first: 0.07 of 100 pairs is 7, but 0.07 * 100 is a little more in binary.
    return scored.limit(math.ceil(round(wanted.top_fraction * count, 6)))


def _check_scored(session: Session, pairs: list[int], scored: Any) -> None:
    found = session.scalars(select(scored.c.pair).where(among(scored.c.pair, pairs)))
    if missing := sorted(set(pairs) - set(found)):
        more = ", ..." * (len(missing) > MAX_PAIRS_NAMED)
        shown = ", ".join(map(str, missing[:MAX_PAIRS_NAMED])) + more
        message = f"No score in this run: {'pair' if len(missing) == 1 else 'pairs'} {shown}."
        raise InvalidInputError(message, [{"field": "pairs", "message": message}])


def _check_score_run(session: Session, dataset_id: int, run_id: int) -> None:
    run = find_run(session, run_id)
    if run is None:
        raise _wrong_run(there_is_no("run", run_id))
    if run.kind != "score":
        raise _wrong_run(f"Run {run_id} is not a score run.")
    if run.dataset_id != dataset_id:
        raise _wrong_run(f"Run {run_id} scored dataset {run.dataset_id}, not {dataset_id}.")
    if run.status != "succeeded":
        raise ConflictError(
            f"Run {run_id} is {run.status}: pairs can be flagged once all of them are scored."
        )


def _wrong_run(message: str) -> InvalidInputError:
    return InvalidInputError(message, [{"field": "score_run", "message": message}])


def get_queue(session: Session, dataset_id: int) -> FlagQueue:
    """The queue, pairs with the most similar responses first.

    Raises:
        NotFoundError: no such dataset.
    """
    require_dataset(session, dataset_id)
    flags = session.scalars(select(Flag).where(Flag.dataset_id == dataset_id)).all()
    # All rows of a queue were made by one request, so the first speaks for all.
    first = flags[0] if flags else None
    measure: SimilarityMeasureName | None = None
    if first is not None:
        measure = next(name for name in SIMILARITY_MEASURES if name == first.measure)
    sign = 1 if measure in LOW_IS_SIMILAR else -1
    ordered = sorted(flags, key=lambda flag: (sign * flag.value, flag.pair))
    return FlagQueue(
        dataset_id=dataset_id,
        score_run=first.score_run if first else None,
        measure=measure,
        created_at=first.created_at if first else None,
        flagged=len(flags),
        items=[FlagOut(pair=flag.pair, value=flag.value) for flag in ordered],
    )


def clear_queue(session: Session, dataset_id: int) -> None:
    """Raises:
    NotFoundError: no such dataset.
    """
    require_dataset(session, dataset_id, lock=True)
    session.execute(delete(Flag).where(Flag.dataset_id == dataset_id))
