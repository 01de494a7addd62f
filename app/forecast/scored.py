"""Reading what a forecast needs of a run's scores."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from app.store.offsets import one_of, read_offsets
from app.store.scores import Score, finite
from chesboard.configs import ObjectiveConfig
from chesboard.forecast import ScoredPair

CHUNK = 10_000
"""Pairs that are in memory at a time."""

_MEASURES = [
    finite(name)
    for name in (
        *("preferred_logprob", "dispreferred_logprob", "head_cosine"),
        *("preferred_grad_norm", "dispreferred_grad_norm"),
    )
]
NEEDED = [
    Score.preferred_logprob,
    Score.dispreferred_logprob,
    Score.preferred_tokens,
    Score.dispreferred_tokens,
    Score.head_cosine,
    Score.preferred_grad_norm,
    Score.dispreferred_grad_norm,
]
"""The columns of a ScoredPair, in the order of its fields."""


def is_forecastable() -> ColumnElement[bool]:
    """Whether a pair's measures are all there and finite. A cosine implies that neither gradient
    is zero."""
    return and_(*(measure.is_not(None) for measure in _MEASURES))


def read_scored(session: Session, run_id: int) -> Iterator[list[tuple[int, ScoredPair]]]:
    """The run's pairs of which a forecast can be made, by ordinal, a part at a time.

    Columns come as arrays, which costs a tenth of fetching the rows.
    """
    part = Score.pair // CHUNK
    query = (
        select(*(_array(column) for column in (Score.pair, *NEEDED)))
        .where(Score.run_id == run_id, is_forecastable())
        .group_by(part)
        .order_by(part)
    )
    for pairs, *columns in session.execute(query.execution_options(yield_per=1)):
        yield list(zip(pairs, map(ScoredPair, *columns), strict=True))


def with_offsets(
    session: Session,
    dataset_id: int,
    config: ObjectiveConfig,
    part: Sequence[tuple[int, ScoredPair]],
) -> list[tuple[int, ScoredPair]]:
    """The pairs with odpo's offsets, 0 where they have none; as they are for other objectives."""
    if config.objective != "odpo":
        return list(part)
    among = one_of([ordinal for ordinal, _ in part])
    found = dict(read_offsets(session, dataset_id, config.odpo_offset, among))
    return [(ordinal, replace(pair, offset=found[ordinal].value or 0.0)) for ordinal, pair in part]


def _array(column: Any) -> Any:
    return func.array_agg(aggregate_order_by(column, Score.pair))
