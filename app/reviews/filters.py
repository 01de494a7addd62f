"""The filter and the order of the review queue, compiled to SQL."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session

from app.core.arrays import among, not_among
from app.core.errors import ConflictError, invalid_field
from app.reviews import displacement
from app.reviews.agreement import disputed, last_verdicts
from app.reviews.schemas import QueueFilter, QueueQuery
from app.store.datasets import Pair
from app.store.displaced import measured_changes
from app.store.external import ExternalRun
from app.store.issues import require_checked, with_issue
from app.store.lookup import find_run, require_dataset, there_is_no
from app.store.reviews import Review
from app.store.runs import EXTERNAL, TRAINING, Run
from app.store.scores import Flag, Score, finite
from chesboard.measures.registry import MeasureName

SCORE = frozenset({"score"})


@dataclass(frozen=True, slots=True)
class Sources:
    """The runs whose measures and whose displacement the queue shows; None where there is none."""

    score_run: int | None
    displacement_run: int | None


def find_sources(session: Session, dataset_id: int, wanted: QueueFilter) -> Sources:
    """The runs that a filter names, else the newest ones over the dataset.

    Raises:
        InvalidInputError: it names a run of another dataset or of another kind.
        ConflictError: it names a score run that has not succeeded.
    """
    scores, displaced = wanted.score_run, wanted.displacement_run
    if scores is None:
        scores = newest_scores(session, dataset_id)
    else:
        _check_run(session, dataset_id, scores, "score_run", SCORE)
    if displaced is None:
        displaced = displacement.newest_measured(session, dataset_id)
    else:
        _check_run(session, dataset_id, displaced, "displacement_run", TRAINING)
    return Sources(scores, displaced)


def newest_scores(session: Session, dataset_id: int) -> int | None:
    return session.scalar(
        select(Run.id)
        .where(Run.dataset_id == dataset_id, Run.kind == "score", Run.status == "succeeded")
        .order_by(Run.id.desc())
        .limit(1)
    )


def _check_run(
    session: Session, dataset_id: int, run_id: int, field: str, kinds: Collection[str]
) -> None:
    run = find_run(session, run_id)
    if run is None:
        message = there_is_no("run", run_id)
    elif run.kind not in kinds:
        message = f"Run {run_id} is not a {'score' if kinds == SCORE else 'training'} run."
    elif run.dataset_id != dataset_id:
        message = f"Run {run_id} is over dataset {run.dataset_id}, not {dataset_id}."
    elif kinds == SCORE and run.status != "succeeded":
        raise ConflictError(f"Run {run_id} is {run.status}: not all pairs are scored.")
    elif run.kind == EXTERNAL and not session.get_one(ExternalRun, run_id).same_pairs:
        message = f"Run {run_id} is trained elsewhere, and numbers its pairs its own way."
    else:
        return
    raise invalid_field(field, message)


# --- the filter ----------------------------------------------------------------------------------


def filtered(session: Session, dataset_id: int, wanted: QueueFilter) -> Select[int]:
    """The ordinals of the pairs that the filter matches.

    Raises:
        NotFoundError: no such dataset.
        InvalidInputError: it names a run of another dataset, needs a run that does not exist, or
            an issue for which the dataset was not checked.
        ConflictError: it names a score run that has not succeeded.
    """
    require_checked(require_dataset(session, dataset_id), wanted.issue, "issue")
    return _filtered(dataset_id, wanted, find_sources(session, dataset_id, wanted))


def _filtered(dataset_id: int, wanted: QueueFilter, sources: Sources) -> Select[int]:
    conditions = _conditions(dataset_id, wanted, sources)
    return select(Pair.pair).where(Pair.dataset_id == dataset_id, *conditions)


def _conditions(
    dataset_id: int, wanted: QueueFilter, sources: Sources
) -> Iterator[ColumnElement[bool]]:
    if wanted.pairs is not None:
        # One array parameter: PostgreSQL allows at most 65,535 parameters a statement.
        yield among(Pair.pair, wanted.pairs)
    if wanted.verdict:
        yield _has_verdict(dataset_id, wanted.verdict)
    if wanted.issue:
        yield Pair.pair.in_(with_issue(dataset_id, wanted.issue))
    flags = select(Flag.pair).where(Flag.dataset_id == dataset_id)
    yield from _is_among(wanted.flagged, flags)
    yield from _is_among(wanted.disputed, disputed(dataset_id))
    if wanted.edited is not None:
        yield Pair.version > 1 if wanted.edited else Pair.version == 1
    if wanted.reviewer:
        current = select(Review.pair).where(
            Review.dataset_id == dataset_id,
            Review.reviewer == wanted.reviewer,
            Review.verdict.is_not(None),
        )
        yield Pair.pair.in_(current)
    if wanted.not_by:
        verdicts = last_verdicts(dataset_id)
        own = select(verdicts.c.pair).where(verdicts.c.reviewer == wanted.not_by)
        yield not_among(Pair.pair, own)
    yield from _displaced(wanted, sources)
    yield from _bounds(wanted, sources)


def _is_among(is_wanted: bool | None, pairs: Select[int]) -> Iterator[ColumnElement[bool]]:
    if is_wanted is not None:
        yield Pair.pair.in_(pairs) if is_wanted else not_among(Pair.pair, pairs)


def _has_verdict(dataset_id: int, verdicts: Sequence[str]) -> ColumnElement[bool]:
    """`verdicts` may hold "none": pairs without a verdict."""
    reviews = select(Review.pair).where(Review.dataset_id == dataset_id)
    given = [verdict for verdict in verdicts if verdict != "none"]
    ways: list[ColumnElement[bool]] = []
    if given:
        ways.append(Pair.pair.in_(reviews.where(Review.verdict.in_(given))))
    if "none" in verdicts:
        ways.append(not_among(Pair.pair, reviews.where(Review.verdict.is_not(None))))
    return or_(*ways)


def _displaced(wanted: QueueFilter, sources: Sources) -> Iterator[ColumnElement[bool]]:
    if wanted.displaced is None:
        return
    if sources.displacement_run is None:
        raise invalid_field(
            "displaced", "No training run over this dataset has measured any pairs."
        )
    changes = measured_changes(sources.displacement_run)
    condition = displacement.is_displaced(changes)
    if not wanted.displaced:
        condition = ~condition
    yield Pair.pair.in_(select(changes.c.pair).where(condition))


def _bounds(wanted: QueueFilter, sources: Sources) -> Iterator[ColumnElement[bool]]:
    if wanted.at_least is None and wanted.at_most is None:
        return
    if wanted.measure is None:
        raise invalid_field("measure", "at_least and at_most need a measure.")
    if sources.score_run is None:
        raise invalid_field("measure", "There is no succeeded score run over this dataset.")
    value = finite(wanted.measure)
    scored = select(Score.pair).where(Score.run_id == sources.score_run)
    if wanted.at_least is not None:
        scored = scored.where(value >= wanted.at_least)
    if wanted.at_most is not None:
        scored = scored.where(value <= wanted.at_most)
    yield Pair.pair.in_(scored)


# --- the order -----------------------------------------------------------------------------------


def ordered(session: Session, dataset_id: int, wanted: QueueQuery) -> tuple[Select[int], Sources]:
    """The ordinals of the queue in its order; pairs without a sort value come last.

    Raises as `filtered` does.
    """
    require_checked(require_dataset(session, dataset_id), wanted.issue, "issue")
    sources = find_sources(session, dataset_id, wanted)
    query, value = _with_sort_value(
        _filtered(dataset_id, wanted, sources), wanted.sort.removeprefix("-"), sources
    )
    if value is None:
        return query.order_by(Pair.pair), sources
    order = value.desc() if wanted.sort.startswith("-") else value.asc()
    return query.order_by(order.nulls_last(), Pair.pair), sources


def _with_sort_value(query: Select[int], name: str, sources: Sources) -> tuple[Select[int], Any]:
    """The query joined with the table of the sort value, and that value; None if no run has it."""
    if name == "pair":
        return query, Pair.pair
    if name == "updated_at":
        same_pair = (Review.dataset_id == Pair.dataset_id) & (Review.pair == Pair.pair)
        return query.outerjoin(Review, same_pair), Review.updated_at
    if name == "displacement":
        if sources.displacement_run is None:
            return query, None
        changes = measured_changes(sources.displacement_run)
        # NaN would sort above every number.
        value = func.nullif(changes.c.preferred_change, float("nan"))
        return query.outerjoin(changes, changes.c.pair == Pair.pair), value
    if sources.score_run is None:
        return query, None
    measure = next(known for known in get_args(MeasureName) if known == name)
    scored = (Score.run_id == sources.score_run) & (Score.pair == Pair.pair)
    return query.outerjoin(Score, scored), finite(measure)
