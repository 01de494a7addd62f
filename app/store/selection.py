"""Selections as SQL: the pairs that one matches, and the record of those that a run was given.

A selection compiles to one SELECT, so that previews, exports and training see the same set. It
applies, in this order: rules (a pair must pass all of them), complement, random subset, limit.
"""

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
    cast,
    column,
    func,
    literal,
    not_,
    select,
    true,
)
from sqlalchemy.orm import Session

from app.core.arrays import among, not_among, rows_among
from app.store.datasets import Dataset, Pair
from app.store.issues import with_issue
from app.store.reviews import PairVersion, Review
from app.store.runs import RunSelection
from app.store.scores import Flag, Score, finite
from chesboard.configs import MeasureRule, RandomSubset, Rules, Selection
from chesboard.pairs import Pair as TextPair

_GIVEN = column("pair", Integer), column("version", Integer)

# --- a selection as SQL --------------------------------------------------------------------------


def selected(dataset_id: int, selection: Rules) -> Select[int]:
    """The ordinals of the pairs that the selection matches, ascending."""
    query = select(Pair.pair).where(Pair.dataset_id == dataset_id, passes(dataset_id, selection))
    if isinstance(selection, Selection):
        if selection.random is not None:
            drawn = _random_subset(dataset_id, query, selection.random)
            query = select(Pair.pair).where(Pair.dataset_id == dataset_id, Pair.pair.in_(drawn))
        if selection.limit is not None:
            query = query.limit(selection.limit)
    return query.order_by(Pair.pair)


def passes(dataset_id: int, rules: Rules) -> ColumnElement[bool]:
    """Condition on a row of `pairs`: the rules and their complement, no random subset or limit."""
    conditions = list(_conditions(dataset_id, rules))
    passing = and_(literal(True), *conditions)
    return not_(passing) if rules.complement else passing


def _conditions(dataset_id: int, rules: Rules) -> Iterator[ColumnElement[bool]]:
    if rules.pairs is not None:
        yield among(Pair.pair, rules.pairs)
    if rules.exclude_flagged:
        yield not_among(Pair.pair, select(Flag.pair).where(Flag.dataset_id == dataset_id))
    if rules.exclude_verdicts:
        yield not_among(Pair.pair, _with_verdict(dataset_id, rules.exclude_verdicts))
    if rules.only_verdicts:
        yield Pair.pair.in_(_with_verdict(dataset_id, rules.only_verdicts))
    if rules.exclude_issues:
        yield not_among(Pair.pair, with_issue(dataset_id, rules.exclude_issues))
    if rules.only_issues:
        yield Pair.pair.in_(with_issue(dataset_id, rules.only_issues))
    for rule in rules.measures:
        yield Pair.pair.in_(_matching(rule))


def _with_verdict(dataset_id: int, verdicts: Sequence[str]) -> Select[int]:
    return select(Review.pair).where(
        Review.dataset_id == dataset_id, Review.verdict.in_(list(verdicts))
    )


def _matching(rule: MeasureRule) -> Select[int]:
    """Pairs at one end of a measure. Without a finite value, a pair is at neither."""
    value = finite(rule.measure)
    scored = select(Score.pair).where(Score.run_id == rule.score_run, value.is_not(None))
    if rule.threshold is not None:
        is_low = rule.keep == "lowest"
        return scored.where(value <= rule.threshold if is_low else value >= rule.threshold)
    assert rule.fraction is not None
    order = value.asc() if rule.keep == "lowest" else value.desc()
    return scored.order_by(order, Score.pair).limit(_fraction_of(rule.fraction, scored))


def _random_subset(dataset_id: int, pairs: Select[int], wanted: RandomSubset) -> Select[int]:
    """A random subset of `pairs`.

    Pairs are ordered by a hash of the seed and the ordinal, so that a seed draws the same pairs
    again, and a smaller subset is contained in a larger one.
    """
    among = pairs.subquery("among")
    if wanted.same_size_as is not None:
        like = selected(dataset_id, wanted.same_size_as).order_by(None)
        size: Any = select(func.count()).select_from(like.subquery("like")).scalar_subquery()
    elif wanted.fraction is not None:
        size = _fraction_of(wanted.fraction, pairs)
    else:
        size = wanted.count
    order = func.md5(func.concat(cast(wanted.seed, BigInteger), ":", cast(among.c.pair, Text)))
    return select(among.c.pair).order_by(order, among.c.pair).limit(size)


def _fraction_of(fraction: float, of: Select[int]) -> Any:
    """ceil(fraction * number of rows).

    Rounded to 6 decimals first: 0.07 of 100 is 7, but 0.07 * 100 is a little more in binary.
    """
    rows = select(func.count()).select_from(of.order_by(None).subquery("of")).scalar_subquery()
    product = cast(cast(fraction, Double) * rows, Numeric)
    return cast(func.ceil(func.round(product, 6)), BigInteger)


def count_selected(session: Session, dataset_id: int, selection: Rules) -> int:
    chosen = selected(dataset_id, selection).order_by(None).subquery("chosen")
    return session.scalar(select(func.count()).select_from(chosen)) or 0


# --- the record of a run's pairs -----------------------------------------------------------------


def record_selection(
    session: Session, run_id: int, dataset_id: int, selection: Rules
) -> RunSelection | None:
    """Record the pairs that the selection matches now, with the version of their texts, as the
    run's own. None where it matches no pair."""
    # Not joined with `pairs` once more, by which a dataset that the database has no statistics of
    # yet would be looked through once for each of its pairs.
    rows = session.execute(selected(dataset_id, selection).add_columns(Pair.version)).all()
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


def copy_selection(session: Session, from_run: int, to_run: int) -> None:
    """Give a run the pairs that another one was given, with the same versions of their texts."""
    record = session.get(RunSelection, from_run)
    if record is None:
        return
    session.add(
        RunSelection(
            run_id=to_run,
            pairs=list(record.pairs),
            versions=list(record.versions),
            dataset_pairs=record.dataset_pairs,
        )
    )
    session.flush()


def chosen_pairs(
    session: Session, run_id: int, dataset_id: int, selection: Rules
) -> list[TextPair]:
    """The pairs that a run was given, with their texts as of then, whatever was edited since.

    A run without a record (its selection matched no pair when it was queued, or it is older than
    these records) is given its pairs now.
    """
    record = session.get(RunSelection, run_id) or record_selection(
        session, run_id, dataset_id, selection
    )
    return [] if record is None else read_pairs(session, run_id, dataset_id, record.pairs)


def read_pairs(
    session: Session, run_id: int, dataset_id: int | None, pairs: Collection[int]
) -> list[TextPair]:
    """These pairs by ordinal, with the texts that the run was given; pairs that it was not given
    have their current texts. Without a dataset there are none."""
    if dataset_id is None:
        return []
    found = session.execute(
        select(Pair.pair, Pair.version, Pair.prompt, Pair.preferred, Pair.dispreferred)
        .where(
            Pair.dataset_id == dataset_id,
            among(Pair.pair, pairs),
        )
        .order_by(Pair.pair)
    ).all()
    given = _versions(session, run_id, pairs)
    edited = {
        row.pair: given[row.pair]
        for row in found
        if given.get(row.pair, row.version) != row.version
    }
    older = _older_texts(session, dataset_id, edited)
    texts: list[tuple[int, Any]] = [(row.pair, older.get(row.pair, row)) for row in found]
    return [
        TextPair(text.prompt, text.preferred, text.dispreferred, pair=pair) for pair, text in texts
    ]


def _versions(session: Session, run_id: int, pairs: Collection[int]) -> dict[int, int]:
    """Of those of these pairs that the run was given, the versions of their texts."""
    given = (
        func.unnest(RunSelection.pairs, RunSelection.versions)
        .table_valued(*_GIVEN, name="given")
        .render_derived()
    )
    rows = session.execute(
        select(given.c.pair, given.c.version)
        .select_from(RunSelection)
        .join(given, true())
        .where(
            RunSelection.run_id == run_id,
            among(given.c.pair, pairs),
        )
    )
    return {row.pair: row.version for row in rows}


def count_edited(session: Session, dataset_id: int, run_id: int) -> int:
    """How many pairs that a run was given have a newer version of their text."""
    newest = (
        select(PairVersion.pair, func.max(PairVersion.version).label("version"))
        .where(PairVersion.dataset_id == dataset_id)
        .group_by(PairVersion.pair)
        .subquery("newest")
    )
    given = (
        func.unnest(RunSelection.pairs, RunSelection.versions)
        .table_valued(*_GIVEN, name="given")
        .render_derived()
    )
    is_newer = and_(newest.c.pair == given.c.pair, newest.c.version > given.c.version)
    query = (
        select(func.count()).select_from(RunSelection).join(given, true()).join(newest, is_newer)
    )
    return session.scalar(query.where(RunSelection.run_id == run_id)) or 0


def _older_texts(session: Session, dataset_id: int, wanted: dict[int, int]) -> dict[int, Any]:
    """Of each pair the text of a version; `wanted` maps ordinals to versions."""
    if not wanted:
        return {}
    found = session.scalars(
        select(PairVersion).where(
            PairVersion.dataset_id == dataset_id,
            rows_among((PairVersion.pair, PairVersion.version), wanted.items()),
        )
    )
    return {row.pair: row for row in found}
