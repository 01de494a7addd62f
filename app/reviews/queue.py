"""The review queue: its pages, and each pair with its review, scores and displacement."""

from collections.abc import Iterator, Sequence

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.nonfinite import finite_or_none
from app.reviews import displacement
from app.reviews.agreement import last_verdicts
from app.reviews.filters import Sources, find_sources, ordered
from app.reviews.percentiles import Grid, grids, percentile
from app.reviews.schemas import (
    DisplacementOfPair,
    MeasureOut,
    QueueFilter,
    QueueItem,
    QueueOrder,
    QueuePage,
    QueuePageQuery,
    QueueQuery,
    ReviewOut,
    ScoreOfPair,
)
from app.store.datasets import Pair
from app.store.displaced import measured_changes
from app.store.lookup import require_pair
from app.store.reviews import PairVersion, Review
from app.store.runs import Run
from app.store.scores import Flag, Score
from chesboard.configs import Verdict
from chesboard.measures.registry import MEASURE_NAMES, MeasureName


def list_order(session: Session, dataset_id: int, wanted: QueueQuery) -> QueueOrder:
    """The ordinals of the whole queue in its order. Raises as `filters.filtered` does."""
    query, sources = ordered(session, dataset_id, wanted)
    # One array: half a million rows take longer than to find and sort them.
    pairs = session.scalar(select(func.array(query.scalar_subquery()))) or []
    return QueueOrder(
        total=len(pairs),
        score_run=sources.score_run,
        displacement_run=sources.displacement_run,
        pairs=pairs,
    )


def list_queue(session: Session, dataset_id: int, wanted: QueuePageQuery) -> QueuePage:
    """A page of the queue. Raises as `filters.filtered` does."""
    query, sources = ordered(session, dataset_id, wanted)
    counted = query.order_by(None).subquery("counted")
    total = session.scalar(select(func.count()).select_from(counted)) or 0
    pairs = list(session.scalars(query.limit(wanted.limit).offset(wanted.offset)))
    return QueuePage(
        total=total,
        score_run=sources.score_run,
        displacement_run=sources.displacement_run,
        items=_items(session, dataset_id, pairs, sources),
    )


def get_item(session: Session, dataset_id: int, pair: int) -> QueueItem:
    """One pair of the queue.

    Raises:
        NotFoundError: no such pair.
    """
    require_pair(session, dataset_id, pair)
    sources = find_sources(session, dataset_id, QueueFilter())
    return _items(session, dataset_id, [pair], sources)[0]


def _items(
    session: Session, dataset_id: int, pairs: Sequence[int], sources: Sources
) -> list[QueueItem]:
    flagged = exists().where(Flag.dataset_id == dataset_id, Flag.pair == Pair.pair)
    rows = session.execute(
        select(Pair, flagged.label("flagged")).where(
            Pair.dataset_id == dataset_id, among(Pair.pair, pairs)
        )
    )
    found = {row.Pair.pair: row for row in rows}
    reviews = session.scalars(
        select(Review)
        .where(Review.dataset_id == dataset_id, among(Review.pair, pairs))
        .execution_options(populate_existing=True)
    )
    reviewed = {review.pair: review for review in reviews}
    verdicts = _verdicts_by_reviewer(session, dataset_id, pairs)
    scores = _scores(session, dataset_id, pairs, sources.score_run)
    displaced = _displacements(session, pairs, sources.displacement_run)
    return [
        QueueItem(
            pair=pair,
            text_version=row.Pair.version,
            prompt=row.Pair.prompt,
            preferred=row.Pair.preferred,
            dispreferred=row.Pair.dispreferred,
            meta=row.Pair.meta,
            flagged=row.flagged,
            review=ReviewOut.of(pair, reviewed.get(pair)),
            said=verdicts.get(pair, {}),
            score=scores.get(pair),
            displacement=displaced.get(pair),
        )
        for pair in pairs
        if (row := found.get(pair)) is not None
    ]


def _verdicts_by_reviewer(
    session: Session, dataset_id: int, pairs: Sequence[int]
) -> dict[int, dict[str, Verdict]]:
    stated = last_verdicts(dataset_id)
    verdicts: dict[int, dict[str, Verdict]] = {}
    for row in session.execute(select(stated).where(among(stated.c.pair, pairs))):
        verdicts.setdefault(row.pair, {})[row.reviewer] = row.verdict
    return verdicts


def _scores(
    session: Session, dataset_id: int, pairs: Sequence[int], run_id: int | None
) -> dict[int, ScoreOfPair]:
    if run_id is None:
        return {}
    run = session.get_one(Run, run_id)
    grid_of = grids(session, run)
    # A run scores the texts as of its creation; version 1 is the file's.
    edited_later = session.scalars(
        select(PairVersion.pair).where(
            PairVersion.dataset_id == dataset_id,
            among(PairVersion.pair, pairs),
            PairVersion.version > 1,
            PairVersion.created_at > run.created_at,
        )
    )
    outdated = set(edited_later)
    rows = session.scalars(select(Score).where(Score.run_id == run_id, among(Score.pair, pairs)))
    return {
        row.pair: ScoreOfPair(
            run_id=run_id,
            measures=dict(_measures(row, grid_of)),
            preferred_tokens=row.preferred_tokens,
            dispreferred_tokens=row.dispreferred_tokens,
            preferred_ends=row.preferred_ends,
            dispreferred_ends=row.dispreferred_ends,
            outdated=row.pair in outdated,
        )
        for row in rows
    }


def _measures(
    row: Score, grid_of: dict[MeasureName, Grid]
) -> Iterator[tuple[MeasureName, MeasureOut]]:
    for name in MEASURE_NAMES:
        value = finite_or_none(getattr(row, name))
        if value is not None:
            rank = percentile(value, grid_of.get(name, []))
            yield name, MeasureOut(value=value, percentile=rank)


def _displacements(
    session: Session, pairs: Sequence[int], run_id: int | None
) -> dict[int, DisplacementOfPair]:
    if run_id is None:
        return {}
    changes = measured_changes(run_id)
    rows = session.execute(
        select(changes, displacement.is_displaced(changes).label("displaced")).where(
            among(changes.c.pair, pairs)
        )
    )
    return {
        row.pair: DisplacementOfPair(
            run_id=run_id,
            preferred_change=finite_or_none(row.preferred_change),
            dispreferred_change=finite_or_none(row.dispreferred_change),
            displaced=bool(row.displaced),
        )
        for row in rows
    }
