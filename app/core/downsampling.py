"""Fewer points of long curves, chosen so that every extreme survives.

A screen has about a thousand columns; a run may have many more steps. The steps are cut into
buckets of like size, and of each bucket every series keeps its smallest and its largest value
(as M4 does: Jugel, Jerzak, Hackenbroich, Markl, VLDB 2014) and its first gap. What is left of the
allowance is spread evenly. All series are kept at the same steps, so a row stays whole.
"""

import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Double, Integer, LargeBinary, Select, cast, func, literal, select
from sqlalchemy.orm import Session

Series = Sequence[float]


def pick(count: int, series: Sequence[Series], points: int) -> list[int]:
    """Places (ascending) of the points to keep out of `count`: all of them, or about `points`.

    First and last are kept, and of every series its minimum, its maximum and a gap (NaN or
    infinity) where there is one, in each bucket. There is at least one bucket, so that more than
    `points` come back where `points` is less than two for each series.
    """
    if count <= points:
        return list(range(count))
    told = [one for one in series if any(map(math.isfinite, one))]
    kept = {0, count - 1}
    buckets = max(1, (points - 2) // max(1, 2 * len(told)))
    edges = [count * number // buckets for number in range(buckets + 1)]
    for one in told:
        for start, end in pairwise(edges):
            kept.update(start + place for place in _extremes(one[start:end]))
    if (left := points - len(kept)) > 0:
        kept.update(count * number // left for number in range(left))
    return sorted(kept)


def _extremes(values: Series) -> Iterator[int]:
    """Places of the smallest and the largest finite value, and of the first gap."""
    finite: Series = values
    if not math.isfinite(sum(values)):  # a look at each takes many times longer
        finite = [value for value in values if math.isfinite(value)]
    if finite:
        yield values.index(min(finite))
        yield values.index(max(finite))
    if len(finite) < len(values):
        yield next(place for place, value in enumerate(values) if not math.isfinite(value))


def read_series(
    session: Session, query: Select[*tuple[Any, ...]]
) -> tuple[list[int], list[Series]]:
    """The rows of a query (a column of integers, then columns of numbers) as columns; NULL is NaN.

    The numbers come packed, as PostgreSQL sends them in binary: 20,000 rows in a few milliseconds,
    where rows or arrays as text take hundreds.
    """
    first, *others = query.subquery().c
    found = session.execute(
        select(
            _packed(func.int4send(cast(first, Integer))),
            *(
                _packed(func.float8send(func.coalesce(cast(column, Double), math.nan)))
                for column in others
            ),
        )
    ).one()
    numbers, *series = found
    return list(_unpacked("i", numbers)), [_unpacked("d", column) for column in series]


def _packed(column: Any) -> Any:
    return func.string_agg(column, literal(b"", LargeBinary), type_=LargeBinary)


def _unpacked(code: str, packed: bytes | None) -> Any:
    values = array(code, packed or b"")
    if sys.byteorder == "little":
        values.byteswap()  # PostgreSQL sends the highest byte first
    return values
