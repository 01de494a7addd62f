"""Reading a run's scores: pages of them, and downloads of all.

NaN and infinity count as missing values: they are null and sort last in either direction.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Double, Select, and_, case, exists, func, select, type_coerce
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
    require_scores(session, run_id)
    total = count_scores(session, run_id)
    rows = session.execute(_scores(run_id, sort, with_text).limit(limit).offset(offset))
    shape = ScoreWithText if with_text else ScoreOut
    return ScorePage(total=total, items=[shape.model_validate(row._asdict()) for row in rows])


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
    measures = [finite(name).label(name) for name in MEASURE_NAMES]
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
