"""The SQL of scores and flags.

PostgreSQL sorts NaN above every number; here NaN and infinity are no values at all: they sort
last either way, are in no statistic and are never flagged.
"""

import json
import math
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args

from sqlalchemy import (
    ColumnElement,
    Double,
    Row,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.orm import Session

from app.core.csv import csv_line
from app.core.database import transaction
from app.core.errors import ConflictError, InvalidInputError, NotFoundError
from app.runs.queries import EXPORT_ROWS
from app.scores.schemas import (
    LOW_IS_ALIKE,
    MEASURES,
    Bin,
    FlagMeasure,
    FlagOut,
    FlagQueue,
    FlagRequest,
    Measure,
    MeasureSummary,
    ScoreOut,
    ScorePage,
    ScoreSummary,
    ScoreWithText,
    SortKey,
)
from app.store.datasets import Dataset, Pair
from app.store.lookup import require_run
from app.store.runs import Run
from app.store.scores import Flag, Score

PERCENTS = (1, 5, 25, 50, 75, 95, 99)
BINS = 40
MOST_NAMED = 10
_LARGEST = sys.float_info.max
_PAIR_TEXT = (Pair.prompt, Pair.preferred, Pair.dispreferred)


def _finite(measure: str) -> ColumnElement[float | None]:
    """The measure's column, NULL where it is NaN or infinite."""
    column = getattr(Score, measure)
    return case((column.between(-_LARGEST, _LARGEST), column))


# --- one run's scores ----------------------------------------------------------------------------


def list_scores(
    session: Session,
    run_id: int,
    *,
    sort: SortKey = "-ches",
    offset: int = 0,
    limit: int = 50,
    with_text: bool = False,
) -> ScorePage:
    """A page of a run's scores, sorted by any column; with `with_text` also the pair's texts.

    Raises:
        NotFoundError: no such run.
    """
    require_scores(session, run_id)
    total = session.scalar(select(func.count()).where(Score.run_id == run_id)) or 0
    rows = session.execute(_scores(run_id, sort, with_text).limit(limit).offset(offset))
    shape = ScoreWithText if with_text else ScoreOut
    return ScorePage(total=total, items=[shape.model_validate(row._asdict()) for row in rows])


def require_scores(session: Session, run_id: int) -> Run:
    """The run, if its kind is one that scores pairs.

    Raises:
        NotFoundError: no such run, or it is a training run.
    """
    run = require_run(session, run_id)
    if run.kind == "train":
        raise NotFoundError(f"Run {run_id} is a training run; it has no scores.")
    return run


def _scores(run_id: int, sort: SortKey, with_text: bool) -> Select[*tuple[Any, ...]]:
    ranked = _ranked(run_id)
    columns = [ranked.c[name] for name in ScoreOut.model_fields if name != "flagged"]
    flagged = exists().where(
        Run.id == run_id, Flag.dataset_id == Run.dataset_id, Flag.pair == ranked.c.pair
    )
    query = select(*columns, flagged.label("flagged"))
    if with_text:
        ours = and_(
            Pair.dataset_id == select(Run.dataset_id).where(Run.id == run_id).scalar_subquery(),
            Pair.pair == ranked.c.pair,
        )
        query = query.add_columns(*_PAIR_TEXT).join(Pair, ours)
    name = sort.removeprefix("-")
    order = ranked.c[name].desc() if sort.startswith("-") else ranked.c[name].asc()
    return query.order_by(order.nulls_last(), ranked.c.pair)


def _ranked(run_id: int) -> Any:
    """The run's scores as ScoreOut has them, with each pair's percentile of CHES."""
    ches = _finite("ches")
    rank = func.percent_rank().over(partition_by=ches.is_(None), order_by=ches)
    measures = [_finite(name).label(name) for name in MEASURES]
    return (
        select(
            Score.pair,
            *measures,
            Score.preferred_tokens,
            Score.dispreferred_tokens,
            Score.prompt_tokens,
            Score.cut_tokens,
            Score.preferred_ends,
            Score.dispreferred_ends,
            case((ches.is_not(None), type_coerce(100 * rank, Double))).label("percentile"),
        )
        .where(Score.run_id == run_id)
        .subquery("ranked")
    )


def export_scores(
    run_id: int, sort: SortKey, with_text: bool, format: Literal["csv", "jsonl"]
) -> Iterator[str]:
    """All scores of a run as text; null is an empty CSV field.

    Opens a transaction of its own: it goes on while the answer is being sent.
    """
    names = list((ScoreWithText if with_text else ScoreOut).model_fields)
    if format == "csv":
        yield csv_line(names)
    with transaction() as session:
        query = _scores(run_id, sort, with_text).execution_options(yield_per=EXPORT_ROWS)
        for rows in session.execute(query).partitions():
            yield "".join(_export_line(row, names, format) for row in rows)


def _export_line(row: Row[Any], names: list[str], format: str) -> str:
    values = [getattr(row, name) for name in names]
    if format == "csv":
        return csv_line([_cell(value) for value in values])
    return json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False) + "\n"


def _cell(value: object) -> object:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else value


# --- their distribution --------------------------------------------------------------------------


def summarize(session: Session, run_id: int) -> ScoreSummary:
    """Statistics and a histogram of every measure, of the finite values.

    Raises:
        NotFoundError: no such run.
    """
    require_scores(session, run_id)
    total = session.scalar(select(func.count()).where(Score.run_id == run_id)) or 0
    measures = {name: _summarize(session, run_id, name) for name in MEASURES}
    return ScoreSummary(run_id=run_id, total=total, measures=measures)


def _summarize(session: Session, run_id: int, measure: Measure) -> MeasureSummary:
    value = _finite(measure)
    shares = [percent / 100 for percent in PERCENTS]
    row = session.execute(
        select(
            func.count(value).label("finite"),
            func.count(getattr(Score, measure)).label("stored"),
            func.min(value).label("minimum"),
            func.max(value).label("maximum"),
            func.avg(value).label("mean"),
            func.percentile_cont(shares).within_group(value).label("quantiles"),
        ).where(Score.run_id == run_id)
    ).one()
    return MeasureSummary(
        count=row.finite,
        nonfinite=row.stored - row.finite,
        minimum=row.minimum,
        maximum=row.maximum,
        mean=row.mean,
        quantiles=dict(zip(map(str, PERCENTS), row.quantiles or [], strict=False)),
        histogram=_histogram(session, run_id, measure, row.minimum, row.maximum),
    )


def _histogram(
    session: Session, run_id: int, measure: Measure, low: float | None, high: float | None
) -> list[Bin]:
    if low is None or high is None:
        return []
    value = _finite(measure)
    bins = BINS if high > low else 1
    number = (
        # The maximum belongs to the last bin, not to one beyond it.
        func.least(func.width_bucket(value, low, high, bins), bins) if high > low else literal(1)
    )
    found = session.execute(
        select(number.label("bin"), func.count(value))
        .where(Score.run_id == run_id, value.is_not(None))
        .group_by("bin")
    )
    counts = {int(bin_number): int(count) for bin_number, count in found}
    edges = [low + (high - low) * index / bins for index in range(bins)] + [high]
    return [
        Bin(low=edges[index], high=edges[index + 1], count=counts.get(index + 1, 0))
        for index in range(bins)
    ]


# --- the queue of pairs to review ----------------------------------------------------------------


def flag_pairs(session: Session, dataset_id: int, wanted: FlagRequest) -> FlagQueue:
    """Make the dataset's queue anew: what was flagged before is no longer.

    Raises:
        NotFoundError: no such dataset.
        InvalidInputError: score_run is not a score run over this dataset, or a named pair has no
            finite value in it.
        ConflictError: score_run has not succeeded.
    """
    _dataset(session, dataset_id, lock=True)
    _check_score_run(session, dataset_id, wanted.score_run)
    value = _finite(wanted.measure)
    chosen = (
        select(
            literal(dataset_id),
            Score.pair,
            literal(wanted.score_run),
            literal(wanted.measure),
            value,
        )
        .where(Score.run_id == wanted.score_run, value.is_not(None))
        .order_by(_most_alike_first(value, wanted.measure), Score.pair)
    )
    if wanted.pairs is not None:
        _check_scored(session, wanted.pairs, chosen.subquery())
    session.execute(delete(Flag).where(Flag.dataset_id == dataset_id))
    columns = ["dataset_id", "pair", "score_run", "measure", "value"]
    session.execute(insert(Flag).from_select(columns, _cut(session, chosen, value, wanted)))
    return get_queue(session, dataset_id)


def _cut(
    session: Session,
    chosen: Select[*tuple[Any, ...]],
    value: ColumnElement[Any],
    wanted: FlagRequest,
) -> Select[*tuple[Any, ...]]:
    """The pairs that the request asks for, out of all in the order of the queue."""
    if wanted.pairs is not None:
        return chosen.where(Score.pair == func.any(wanted.pairs))
    if wanted.top_fraction is None:
        if wanted.measure in LOW_IS_ALIKE:
            return chosen.where(value <= wanted.threshold)
        return chosen.where(value >= wanted.threshold)
    scored = session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
    # Rounded, so that 0.07 of 100 pairs is 7, not the 8 that binary fractions make of it.
    return chosen.limit(math.ceil(round(wanted.top_fraction * scored, 6)))


def _check_scored(session: Session, pairs: list[int], scored: Any) -> None:
    there = session.scalars(select(scored.c.pair).where(scored.c.pair == func.any(pairs)))
    if missing := sorted(set(pairs) - set(there)):
        shown = ", ".join(map(str, missing[:MOST_NAMED])) + (", ..." * (len(missing) > MOST_NAMED))
        message = (
            f"Without a score in this run: {'pair' if len(missing) == 1 else 'pairs'} {shown}."
        )
        raise InvalidInputError(message, [{"field": "pairs", "message": message}])


def _most_alike_first(value: ColumnElement[Any], measure: str) -> ColumnElement[Any]:
    return value.asc() if measure in LOW_IS_ALIKE else value.desc()


def _check_score_run(session: Session, dataset_id: int, run_id: int) -> None:
    run = session.get(Run, run_id) if 0 < run_id < 2**63 else None
    if run is None:
        raise _wrong_run(f"There is no run {run_id}.")
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
    """Raises NotFoundError where there is no such dataset."""
    _dataset(session, dataset_id)
    flags = session.scalars(select(Flag).where(Flag.dataset_id == dataset_id)).all()
    made = flags[0] if flags else None
    measure: FlagMeasure | None = None
    if made is not None:
        measure = next(name for name in get_args(FlagMeasure) if name == made.measure)
    sign = 1 if measure in LOW_IS_ALIKE else -1
    ordered = sorted(flags, key=lambda flag: (sign * flag.value, flag.pair))
    return FlagQueue(
        dataset_id=dataset_id,
        score_run=made.score_run if made else None,
        measure=measure,
        created_at=made.created_at if made else None,
        flagged=len(flags),
        items=[FlagOut(pair=flag.pair, value=flag.value) for flag in ordered],
    )


def clear_queue(session: Session, dataset_id: int) -> None:
    """Raises NotFoundError where there is no such dataset."""
    _dataset(session, dataset_id, lock=True)
    session.execute(delete(Flag).where(Flag.dataset_id == dataset_id))


def _dataset(session: Session, dataset_id: int, *, lock: bool = False) -> Dataset:
    """`lock`: two requests that make the same queue follow one another."""
    if not 0 < dataset_id < 2**63:
        found = None
    else:
        found = session.get(
            Dataset, dataset_id, with_for_update={"key_share": True} if lock else None
        )
    if found is None:
        raise NotFoundError(f"There is no dataset {dataset_id}.")
    return found
