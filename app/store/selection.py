"""Which pairs a selection leaves, as SQL; and the record of those that a run was given.

A whole selection is one statement, so that what is counted, shown, exported and trained on is
the same set. It goes: rules (each pair must pass all), complement, random subset, limit.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Integer,
    Numeric,
    Select,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.store.datasets import Dataset, Pair
from app.store.reviews import PairVersion, Review
from app.store.runs import RunSelection
from app.store.scores import Flag, Score
from chesboard.configs import MeasureRule, RandomSubset, Rules, Selection
from chesboard.pairs import Pair as TextPair

_LARGEST = sys.float_info.max
ROWS = 500
"""Pairs that are fetched at a time, so that a dataset is never held as a whole."""


# --- a selection as SQL --------------------------------------------------------------------------


def selected(dataset_id: int, selection: Rules) -> Select[int]:
    """The ordinals of the pairs that the selection leaves, in their order."""
    query = select(Pair.pair).where(Pair.dataset_id == dataset_id, passes(dataset_id, selection))
    if isinstance(selection, Selection):
        if selection.random is not None:
            drawn = _drawn(dataset_id, query, selection.random)
            query = select(Pair.pair).where(Pair.dataset_id == dataset_id, Pair.pair.in_(drawn))
        if selection.limit is not None:
            query = query.limit(selection.limit)
    return query.order_by(Pair.pair)


def passes(dataset_id: int, rules: Rules) -> ColumnElement[bool]:
    """Whether a row of `pairs` passes the rules (without random subset and limit)."""
    conditions = list(_conditions(dataset_id, rules))
    passing = and_(literal(True), *conditions)
    return not_(passing) if rules.complement else passing


def _conditions(dataset_id: int, rules: Rules) -> Iterator[ColumnElement[bool]]:
    if rules.pairs is not None:
        # One array, however many: PostgreSQL takes at most 65,535 parameters.
        yield Pair.pair == func.any(
            cast([pair for pair in rules.pairs if pair < 2**31], ARRAY(Integer))
        )
    if rules.exclude_flagged:
        yield Pair.pair.not_in(select(Flag.pair).where(Flag.dataset_id == dataset_id))
    if rules.exclude_verdicts:
        yield Pair.pair.not_in(_with_verdict(dataset_id, rules.exclude_verdicts))
    if rules.only_verdicts:
        yield Pair.pair.in_(_with_verdict(dataset_id, rules.only_verdicts))
    for rule in rules.measures:
        yield Pair.pair.in_(_at_one_end(rule))


def _with_verdict(dataset_id: int, verdicts: Sequence[str]) -> Select[int]:
    return select(Review.pair).where(
        Review.dataset_id == dataset_id, Review.verdict.in_(list(verdicts))
    )


def finite(measure: str) -> ColumnElement[float | None]:
    """A measure's column, NULL where it is NaN (which PostgreSQL sorts above all) or infinite."""
    column = getattr(Score, measure)
    return case((column.between(-_LARGEST, _LARGEST), column))


def _at_one_end(rule: MeasureRule) -> Select[int]:
    value = finite(rule.measure)
    scored = select(Score.pair).where(Score.run_id == rule.score_run, value.is_not(None))
    if rule.threshold is not None:
        is_low = rule.keep == "lowest"
        return scored.where(value <= rule.threshold if is_low else value >= rule.threshold)
    assert rule.fraction is not None
    order = value.asc() if rule.keep == "lowest" else value.desc()
    return scored.order_by(order, Score.pair).limit(_share(rule.fraction, scored))


def _drawn(dataset_id: int, pairs: Select[int], wanted: RandomSubset) -> Select[int]:
    """Some of `pairs` in an order that depends on the seed and the ordinal alone."""
    among = pairs.subquery("among")
    if wanted.same_size_as is not None:
        like = selected(dataset_id, wanted.same_size_as).order_by(None)
        size: Any = select(func.count()).select_from(like.subquery("like")).scalar_subquery()
    elif wanted.fraction is not None:
        size = _share(wanted.fraction, pairs)
    else:
        size = wanted.count
    drawn = func.md5(func.concat(cast(wanted.seed, BigInteger), ":", cast(among.c.pair, Text)))
    return select(among.c.pair).order_by(drawn, among.c.pair).limit(size)


def _share(fraction: float, of: Select[int]) -> Any:
    """The fraction of the rows, rounded up; 0.07 of 100 is 7, not the 8 of binary fractions."""
    rows = select(func.count()).select_from(of.order_by(None).subquery("of")).scalar_subquery()
    product = cast(cast(fraction, Double) * rows, Numeric)
    return cast(func.ceil(func.round(product, 6)), BigInteger)


# --- counting and reading ------------------------------------------------------------------------


def count_selected(session: Session, dataset_id: int, selection: Rules) -> int:
    chosen = selected(dataset_id, selection).order_by(None).subquery("chosen")
    return session.scalar(select(func.count()).select_from(chosen)) or 0


def left_pairs(session: Session, dataset_id: int, selection: Rules) -> Iterator[Pair]:
    """The pairs that the selection leaves, with their present texts, streamed in their order."""
    query = (
        select(Pair)
        .where(Pair.dataset_id == dataset_id, Pair.pair.in_(selected(dataset_id, selection)))
        .order_by(Pair.pair)
        .execution_options(yield_per=ROWS)
    )
    for partition in session.scalars(query).partitions():
        yield from partition
        session.expunge_all()


# --- what a run was given ------------------------------------------------------------------------


def record_selection(
    session: Session, run_id: int, dataset_id: int, selection: Rules
) -> RunSelection | None:
    """Decide once for all which pairs, in which text, a run works on. None where none is left."""
    rows = session.execute(
        select(Pair.pair, Pair.version)
        .where(Pair.dataset_id == dataset_id, Pair.pair.in_(selected(dataset_id, selection)))
        .order_by(Pair.pair)
    ).all()
    if not rows:
        return None
    dataset = session.get_one(Dataset, dataset_id)
    made = RunSelection(
        run_id=run_id,
        pairs=[row.pair for row in rows],
        versions=[row.version for row in rows],
        dataset_pairs=dataset.pairs,
    )
    session.add(made)
    session.flush()
    return made


def chosen_pairs(
    session: Session, run_id: int, dataset_id: int, selection: Rules
) -> list[TextPair]:
    """The pairs that a run was given, in the texts of that time, whatever was said since.

    A run that has none on record (none was left when it was queued, or it is older than these
    records) is given its pairs now.
    """
    record = session.get(RunSelection, run_id) or record_selection(
        session, run_id, dataset_id, selection
    )
    return [] if record is None else read_pairs(session, run_id, dataset_id, record.pairs)


def read_pairs(
    session: Session, run_id: int, dataset_id: int, pairs: Collection[int]
) -> list[TextPair]:
    """These pairs, ordered by ordinal, in the texts that the run was given, else in the present."""
    found = session.execute(
        select(Pair.pair, Pair.version, Pair.prompt, Pair.preferred, Pair.dispreferred)
        .where(
            Pair.dataset_id == dataset_id,
            Pair.pair == func.any(cast(list(pairs), ARRAY(Integer))),
        )
        .order_by(Pair.pair)
    ).all()
    record = session.get(RunSelection, run_id)
    given = dict(zip(record.pairs, record.versions, strict=True)) if record else {}
    changed = {
        row.pair: given[row.pair]
        for row in found
        if given.get(row.pair, row.version) != row.version
    }
    older = _older_texts(session, dataset_id, changed)
    texts: list[tuple[int, Any]] = [(row.pair, older.get(row.pair, row)) for row in found]
    return [
        TextPair(text.prompt, text.preferred, text.dispreferred, pair=pair) for pair, text in texts
    ]


def _older_texts(session: Session, dataset_id: int, wanted: dict[int, int]) -> dict[int, Any]:
    if not wanted:
        return {}
    either = [
        and_(PairVersion.pair == pair, PairVersion.version == version)
        for pair, version in wanted.items()
    ]
    found = session.scalars(
        select(PairVersion).where(PairVersion.dataset_id == dataset_id, or_(*either))
    )
    return {row.pair: row for row in found}
