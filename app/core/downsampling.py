"""Downsampling of long curves that keeps every extreme.

A screen has about a thousand columns; a run may have many more steps. The steps are divided into
buckets of equal size, and in each bucket every series keeps its minimum, its maximum (as in M4:
Jugel, Jerzak, Hackenbroich, Markl, VLDB 2014) and its first gap. The rest of the budget is spread
evenly. All series are kept at the same steps, so that rows stay complete.
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
    """Indices (ascending) of the points to keep out of `count`: all of them, or about `points`.

    Keeps the first and the last point, and per bucket every series' minimum, maximum and first gap
    (NaN or infinity), if any. There is at least one bucket, so more than `points` are returned if
    `points` is less than two per series.
    """
    if count <= points:
        return list(range(count))
    with_values = [one for one in series if any(map(math.isfinite, one))]
    kept = {0, count - 1}
    buckets = max(1, (points - 2) // max(1, 2 * len(with_values)))
    edges = [count * number // buckets for number in range(buckets + 1)]
    for one in with_values:
        for start, end in pairwise(edges):
            kept.update(start + index for index in _extremes(one[start:end]))
    if (left := points - len(kept)) > 0:
        kept.update(count * number // left for number in range(left))
    return sorted(kept)


def _extremes(values: Series) -> Iterator[int]:
    """Indices of the smallest and the largest finite value, and of the first gap."""
    finite: Series = values
    if not math.isfinite(sum(values)):  # a test of each value is many times slower
        finite = [value for value in values if math.isfinite(value)]
    if finite:
        yield values.index(min(finite))
        yield values.index(max(finite))
    if len(finite) < len(values):
        yield next(index for index, value in enumerate(values) if not math.isfinite(value))


def read_series(
    session: Session, query: Select[*tuple[Any, ...]]
) -> tuple[list[int], list[Series]]:
    """The columns of a query (one of integers, then any of floats); NULL becomes NaN.

    PostgreSQL packs each column into one byte string in its binary format: 20,000 rows take a few
    milliseconds, where rows or arrays as text take hundreds.
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
        values.byteswap()  # PostgreSQL's binary format is big-endian
    return values
