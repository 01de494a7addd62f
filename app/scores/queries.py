"""Reading a run's scores: pages of them, and downloads of all.

NaN and infinity count as missing values: they are null and sort last in either direction.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from sqlalchemy import Double, Select, and_, case, cast, exists, func, select, type_coerce
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.errors import NotFoundError
from app.core.exports import RowFormat, export_rows
from app.core.paging import EXPORT_ROWS, PAGE_SIZE
from app.scores.schemas import ScoreOut, ScorePage, ScoreWithText, SortKey
from app.store.datasets import Pair
from app.store.lookup import require_run
from app.store.runs import WITHOUT_SCORES, Run
from app.store.scores import Flag, Score, finite
from chesboard.measures.registry import MEASURE_NAMES

_PAIR_TEXT = (Pair.prompt, Pair.preferred, Pair.dispreferred)


def list_scores(
    session: Session,
    run_id: int,
    *,
    sort: SortKey = "-ches",
    offset: int = 0,
    limit: int = PAGE_SIZE,
    with_text: bool = False,
) -> ScorePage:
    """A page of a run's scores, sorted by any column; `with_text` adds the pairs' texts.

    Raises:
        NotFoundError: no such run, or one of a kind that scores nothing.
    """
    run = require_scores(session, run_id)
    total = count_scores(session, run_id)
    rows = session.execute(_page(run, sort, offset, limit, with_text)).all()
    percentiles = _percentiles(session, run_id, [row.ches for row in rows])
    shape = ScoreWithText if with_text else ScoreOut
    return ScorePage(
        total=total,
        items=[
            shape.model_validate({**row._asdict(), "percentile": percentiles.get(row.ches)})
            for row in rows
        ],
    )


def require_scores(session: Session, run_id: int) -> Run:
    """The run, provided that its kind scores pairs.

    Raises:
        NotFoundError: no such run, or one of a kind that scores nothing.
    """
    run = require_run(session, run_id)
    if run.kind in WITHOUT_SCORES:
        raise NotFoundError(f"Run {run_id} is a {WITHOUT_SCORES[run.kind]} run; it has no scores.")
    return run


def count_scores(session: Session, run_id: int) -> int:
    return session.scalar(select(func.count()).where(Score.run_id == run_id)) or 0


def _page(
    run: Run, sort: SortKey, offset: int, limit: int, with_text: bool
) -> Select[*tuple[Any, ...]]:
    """Rows of ScoreOut without the percentile: of the pairs that are found first by the sort value
    alone, since a row is a hundred times as wide."""
    columns = _columns()
    value = columns[sort.removeprefix("-")]
    order = ((value.desc() if sort.startswith("-") else value.asc()).nulls_last(), Score.pair)
    found = (
        select(Score.pair)
        .where(Score.run_id == run.id)
        .order_by(*order)
        .limit(limit)
        .offset(offset)
        .subquery("found")
    )
    flagged = exists().where(Flag.dataset_id == run.dataset_id, Flag.pair == Score.pair)
    query = (
        select(*columns.values(), flagged.label("flagged"))
        .join(found, found.c.pair == Score.pair)
        .where(Score.run_id == run.id)
        .order_by(*order)
    )
    if not with_text:
        return query
    same_pair = (Pair.dataset_id == run.dataset_id) & (Pair.pair == Score.pair)
    return query.add_columns(*_PAIR_TEXT).join(Pair, same_pair)


def _percentiles(
    session: Session, run_id: int, values: Sequence[float | None]
) -> dict[float | None, float]:
    """Of these values of CHES among all of the run, as SQL's percent_rank() but in one pass."""
    wanted = sorted({value for value in values if value is not None})
    if not wanted:
        return {}
    ches = finite("ches")
    below = func.width_bucket(ches, cast(wanted, ARRAY(Double))).label("below")
    counted = session.execute(
        select(below, func.count().label("number"))
        .where(Score.run_id == run_id, ches.is_not(None))
        .group_by(below)
    )
    # In bucket n are the values from the n-th wanted one (from 1) up to the next.
    counts = {row.below: row.number for row in counted}
    others = sum(counts.values()) - 1
    ranks = accumulate(counts.get(bucket, 0) for bucket in range(len(wanted)))
    return {
        value: 100 * (rank / others) if others else 0.0
        for value, rank in zip(wanted, ranks, strict=True)
    }


def _scores(run_id: int, sort: SortKey, with_text: bool) -> Select[*tuple[Any, ...]]:
    ranked = _ranked(run_id)
    columns = [ranked.c[name] for name in ScoreOut.model_fields if name != "flagged"]
    flagged = exists().where(
        Run.id == run_id, Flag.dataset_id == Run.dataset_id, Flag.pair == ranked.c.pair
    )
    query = select(*columns, flagged.label("flagged"))
    if with_text:
        same_pair = and_(
            Pair.dataset_id == select(Run.dataset_id).where(Run.id == run_id).scalar_subquery(),
            Pair.pair == ranked.c.pair,
        )
        query = query.add_columns(*_PAIR_TEXT).join(Pair, same_pair)
    name = sort.removeprefix("-")
    order = ranked.c[name].desc() if sort.startswith("-") else ranked.c[name].asc()
    return query.order_by(order.nulls_last(), ranked.c.pair)


def _ranked(run_id: int) -> Any:
    """Subquery of the columns of ScoreOut, with each pair's percentile of CHES in the run."""
    ches = finite("ches")
    # The partition keeps missing values out of the ranking of the others.
    rank = func.percent_rank().over(partition_by=ches.is_(None), order_by=ches)
    return (
        select(
            *_columns().values(),
            case((ches.is_not(None), type_coerce(100 * rank, Double))).label("percentile"),
        )
        .where(Score.run_id == run_id)
        .subquery("ranked")
    )


def _columns() -> dict[str, Any]:
    """name → column of ScoreOut, without the percentile and the flag."""
    computed = ("percentile", "flagged")
    return {
        name: finite(name).label(name) if name in MEASURE_NAMES else getattr(Score, name)
        for name in ScoreOut.model_fields
        if name not in computed
    }


def export_scores(run_id: int, sort: SortKey, with_text: bool, format: RowFormat) -> Iterator[str]:
    """All scores of a run, one a line.

    Opens its own transaction.
    """
    names = list((ScoreWithText if with_text else ScoreOut).model_fields)
    return export_rows(names, _exported(run_id, sort, with_text), format)


def _exported(run_id: int, sort: SortKey, with_text: bool) -> Iterator[list[dict[str, Any]]]:
    with transaction() as session:
        query = _scores(run_id, sort, with_text).execution_options(yield_per=EXPORT_ROWS)
        for rows in session.execute(query).partitions():
            yield [row._asdict() for row in rows]
