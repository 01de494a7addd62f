"""The queue of pairs to review: which pairs, in which order, and all that is known of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Subquery,
    cast,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.core.errors import ConflictError, InvalidInputError, NotFoundError
from app.core.nonfinite import finite_or_none
from app.reviews import displacement, statements
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
from app.scores.schemas import MEASURES, Measure
from app.store.datasets import Dataset, Pair
from app.store.reviews import PairVersion, Review
from app.store.runs import Run
from app.store.scores import Flag, Score
from app.store.selection import finite
from chesboard.configs import Verdict


@dataclass(frozen=True, slots=True)
class _Sources:
    """Whose measures and whose displacement are shown; None where there are none."""

    score_run: int | None
    displacement_run: int | None


def filtered(session: Session, dataset_id: int, wanted: QueueFilter) -> Select[int]:
    """The ordinals of the pairs that the filter leaves.

    Raises:
        NotFoundError: no such dataset.
        InvalidInputError: it names a run that is not the dataset's.
        ConflictError: it names a score run that has not succeeded.
    """
    require_dataset(session, dataset_id)
    sources = _sources(session, dataset_id, wanted)
    conditions = _conditions(dataset_id, wanted, sources)
    return select(Pair.pair).where(Pair.dataset_id == dataset_id, *conditions)


def list_order(session: Session, dataset_id: int, wanted: QueueQuery) -> QueueOrder:
    """All pairs of the queue in its order. Raises as `filtered` does."""
    query, sources = _ordered(session, dataset_id, wanted)
    pairs = list(session.scalars(query))
    return QueueOrder(
        total=len(pairs),
        score_run=sources.score_run,
        displacement_run=sources.displacement_run,
        pairs=pairs,
    )


def list_queue(session: Session, dataset_id: int, wanted: QueuePageQuery) -> QueuePage:
    """A page of the queue with all that is known of its pairs. Raises as `filtered` does."""
    query, sources = _ordered(session, dataset_id, wanted)
    counted = query.order_by(None).subquery("counted")
    total = session.scalar(select(func.count()).select_from(counted)) or 0
    pairs = list(session.scalars(query.limit(wanted.limit).offset(wanted.offset)))
    return QueuePage(
        total=total,
        score_run=sources.score_run,
        displacement_run=sources.displacement_run,
        items=_items(session, dataset_id, pairs, sources),
    )


def require_dataset(session: Session, dataset_id: int) -> Dataset:
    """Raises NotFoundError where there is none."""
    dataset = session.get(Dataset, dataset_id) if 0 < dataset_id < 2**63 else None
    if dataset is None:
        raise NotFoundError(f"There is no dataset {dataset_id}.")
    return dataset


# --- whose numbers -------------------------------------------------------------------------------


def _sources(session: Session, dataset_id: int, wanted: QueueFilter) -> _Sources:
    scores, displaced = wanted.score_run, wanted.displacement_run
    if scores is None:
        scores = newest_scores(session, dataset_id)
    else:
        _check_run(session, dataset_id, scores, "score_run", "score")
    if displaced is None:
        displaced = displacement.newest_measured(session, dataset_id)
    else:
        _check_run(session, dataset_id, displaced, "displacement_run", "train")
    return _Sources(scores, displaced)


def newest_scores(session: Session, dataset_id: int) -> int | None:
    return session.scalar(
        select(Run.id)
        .where(Run.dataset_id == dataset_id, Run.kind == "score", Run.status == "succeeded")
        .order_by(Run.id.desc())
        .limit(1)
    )


def _check_run(session: Session, dataset_id: int, run_id: int, field: str, kind: str) -> None:
    run = session.get(Run, run_id)
    if run is None:
        message = f"There is no run {run_id}."
    elif run.kind != kind:
        message = f"Run {run_id} is no {'score' if kind == 'score' else 'training'} run."
    elif run.dataset_id != dataset_id:
        message = f"Run {run_id} is over dataset {run.dataset_id}, not {dataset_id}."
    elif kind == "score" and run.status != "succeeded":
        raise ConflictError(f"Run {run_id} is {run.status}: not all pairs are scored.")
    else:
        return
    raise InvalidInputError(f"{field}: {message}", [{"field": field, "message": message}])


# --- which pairs ---------------------------------------------------------------------------------


def _conditions(
    dataset_id: int, wanted: QueueFilter, sources: _Sources
) -> Iterator[ColumnElement[bool]]:
    if wanted.pairs is not None:
        yield Pair.pair == func.any(cast(wanted.pairs, ARRAY(Integer)))
    if wanted.verdict:
        yield _has_verdict(dataset_id, wanted.verdict)
    flags = select(Flag.pair).where(Flag.dataset_id == dataset_id)
    yield from _either(wanted.flagged, flags)
    yield from _either(wanted.disputed, statements.disputed(dataset_id))
    if wanted.edited is not None:
        yield Pair.version > 1 if wanted.edited else Pair.version == 1
    if wanted.reviewer:
        theirs = select(Review.pair).where(
            Review.dataset_id == dataset_id,
            Review.reviewer == wanted.reviewer,
            Review.verdict.is_not(None),
        )
        yield Pair.pair.in_(theirs)
    if wanted.not_by:
        said = statements.said(dataset_id)
        yield Pair.pair.not_in(select(said.c.pair).where(said.c.reviewer == wanted.not_by))
    yield from _displaced(wanted, sources)
    yield from _bounds(wanted, sources)


def _either(is_wanted: bool | None, pairs: Select[int]) -> Iterator[ColumnElement[bool]]:
    if is_wanted is not None:
        yield Pair.pair.in_(pairs) if is_wanted else Pair.pair.not_in(pairs)


def _has_verdict(dataset_id: int, verdicts: Sequence[str]) -> ColumnElement[bool]:
    reviews = select(Review.pair).where(Review.dataset_id == dataset_id)
    given = [verdict for verdict in verdicts if verdict != "none"]
    ways: list[ColumnElement[bool]] = []
    if given:
        ways.append(Pair.pair.in_(reviews.where(Review.verdict.in_(given))))
    if "none" in verdicts:
        ways.append(Pair.pair.not_in(reviews.where(Review.verdict.is_not(None))))
    return or_(*ways)


def _displaced(wanted: QueueFilter, sources: _Sources) -> Iterator[ColumnElement[bool]]:
    if wanted.displaced is None:
        return
    if sources.displacement_run is None:
        raise _missing("displaced", "No training run over this dataset has measured any pairs.")
    changes = displacement.measured(sources.displacement_run)
    is_so = displacement.is_displaced(changes)
    yield Pair.pair.in_(select(changes.c.pair).where(is_so if wanted.displaced else ~is_so))


def _bounds(wanted: QueueFilter, sources: _Sources) -> Iterator[ColumnElement[bool]]:
    if wanted.at_least is None and wanted.at_most is None:
        return
    if wanted.measure is None:
        raise _missing("measure", "Say which measure at_least and at_most speak of.")
    if sources.score_run is None:
        raise _missing("measure", "No finished score run over this dataset.")
    value = finite(wanted.measure)
    scored = select(Score.pair).where(Score.run_id == sources.score_run)
    if wanted.at_least is not None:
        scored = scored.where(value >= wanted.at_least)
    if wanted.at_most is not None:
        scored = scored.where(value <= wanted.at_most)
    yield Pair.pair.in_(scored)


def _missing(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {message}", [{"field": field, "message": message}])


def _ordered(session: Session, dataset_id: int, wanted: QueueQuery) -> tuple[Select[int], _Sources]:
    query = filtered(session, dataset_id, wanted)
    sources = _sources(session, dataset_id, wanted)
    name = wanted.sort.removeprefix("-")
    value: Any = None
    if name == "pair":
        value = Pair.pair
    elif name == "updated_at":
        ours = (Review.dataset_id == Pair.dataset_id) & (Review.pair == Pair.pair)
        query, value = query.outerjoin(Review, ours), Review.updated_at
    elif name == "displacement" and sources.displacement_run is not None:
        changes = displacement.measured(sources.displacement_run)
        query = query.outerjoin(changes, changes.c.pair == Pair.pair)
        value = func.nullif(changes.c.preferred_change, float("nan"))
    elif name in MEASURES and sources.score_run is not None:
        scored = (Score.run_id == sources.score_run) & (Score.pair == Pair.pair)
        query, value = query.outerjoin(Score, scored), finite(name)
    if value is None:
        return query.order_by(Pair.pair), sources
    order = value.desc() if wanted.sort.startswith("-") else value.asc()
    return query.order_by(order.nulls_last(), Pair.pair), sources


# --- what is known of them -----------------------------------------------------------------------


def get_item(session: Session, dataset_id: int, pair: int) -> QueueItem:
    """One pair of the queue.

    Raises:
        NotFoundError: no such pair.
    """
    require_dataset(session, dataset_id)
    sources = _sources(session, dataset_id, QueueFilter())
    items = _items(session, dataset_id, [pair], sources) if 0 <= pair < 2**31 else []
    if not items:
        raise NotFoundError(f"There is no pair {pair} in dataset {dataset_id}.")
    return items[0]


def _items(
    session: Session, dataset_id: int, pairs: Sequence[int], sources: _Sources
) -> list[QueueItem]:
    these = list(pairs)
    flagged = exists().where(Flag.dataset_id == dataset_id, Flag.pair == Pair.pair)
    rows = session.execute(
        select(Pair, flagged.label("flagged")).where(
            Pair.dataset_id == dataset_id, Pair.pair.in_(these)
        )
    )
    found = {row.Pair.pair: row for row in rows}
    reviews = session.scalars(
        select(Review)
        .where(Review.dataset_id == dataset_id, Review.pair.in_(these))
        .execution_options(populate_existing=True)
    )
    reviewed = {review.pair: review for review in reviews}
    said = _said(session, dataset_id, these)
    scores = _scores(session, dataset_id, these, sources.score_run)
    displaced = _displacements(session, these, sources.displacement_run)
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
            said=said.get(pair, {}),
            score=scores.get(pair),
            displacement=displaced.get(pair),
        )
        for pair in these
        if (row := found.get(pair)) is not None
    ]


def _said(session: Session, dataset_id: int, pairs: Sequence[int]) -> dict[int, dict[str, Verdict]]:
    stated = statements.said(dataset_id)
    said: dict[int, dict[str, Verdict]] = {}
    for row in session.execute(select(stated).where(stated.c.pair.in_(pairs))):
        said.setdefault(row.pair, {})[row.reviewer] = row.verdict
    return said


def _scores(
    session: Session, dataset_id: int, pairs: Sequence[int], run_id: int | None
) -> dict[int, ScoreOfPair]:
    if run_id is None:
        return {}
    run = session.get_one(Run, run_id)
    ordered = grids(session, run)
    # A run reads the texts that stood when it was queued.
    later = session.scalars(
        select(PairVersion.pair).where(
            PairVersion.dataset_id == dataset_id,
            PairVersion.pair.in_(pairs),
            PairVersion.version > 1,
            PairVersion.created_at > run.created_at,
        )
    )
    outdated = set(later)
    rows = session.scalars(select(Score).where(Score.run_id == run_id, Score.pair.in_(pairs)))
    return {
        row.pair: ScoreOfPair(
            run_id=run_id,
            measures=dict(_measures(row, ordered)),
            preferred_tokens=row.preferred_tokens,
            dispreferred_tokens=row.dispreferred_tokens,
            preferred_ends=row.preferred_ends,
            dispreferred_ends=row.dispreferred_ends,
            outdated=row.pair in outdated,
        )
        for row in rows
    }


def _measures(row: Score, ordered: dict[Measure, Grid]) -> Iterator[tuple[Measure, MeasureOut]]:
    for name in MEASURES:
        value = finite_or_none(getattr(row, name))
        if value is not None:
            at = percentile(value, ordered.get(name, []))
            yield name, MeasureOut(value=value, percentile=at)


def _displacements(
    session: Session, pairs: Sequence[int], run_id: int | None
) -> dict[int, DisplacementOfPair]:
    if run_id is None:
        return {}
    changes: Subquery = displacement.measured(run_id)
    rows = session.execute(
        select(changes, displacement.is_displaced(changes).label("displaced")).where(
            changes.c.pair.in_(pairs)
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
