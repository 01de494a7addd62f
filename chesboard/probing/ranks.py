"""Spearman's rank correlation, without numpy or torch: the web side computes it too."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, compress, count, islice, pairwise, repeat
from operator import mul, ne
from typing import Any

Column = Sequence[float | None]
"""Values with gaps: None, NaN or an infinity."""


def spearman_of(xs: Column, ys: Column) -> tuple[float | None, int]:
    """(Spearman's correlation over the places where neither side has a gap, how many these are)."""
    return spearman_of_each([xs], ys)[0]


def spearman_of_each(columns: Iterable[Column], ys: Column) -> list[tuple[float | None, int]]:
    """`spearman_of` of each of the columns with ys, which are ranked once where nothing is left
    out.

    Raises:
        ValueError: a column has not as many values as ys.
    """
    of_ys = None if _has_gaps(ys) else _ranked(ys)
    found = []
    for xs in columns:
        if len(xs) != len(ys):
            raise ValueError(f"{len(xs)} values cannot be ranked against {len(ys)}")
        if of_ys is not None and not _has_gaps(xs):
            found.append((_correlation(_ranked(xs), of_ys), len(xs)))
            continue
        whole = [_is_number(x) and _is_number(y) for x, y in zip(xs, ys, strict=True)]
        a, b = (_ranked(list(compress(side, whole))) for side in (xs, ys))
        found.append((_correlation(a, b), len(a.doubled)))
    return found


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """The correlation of the ranks, ties averaged.

    None for fewer than two values, where one side is constant, and where a value is not finite.
    """
    found, compared = spearman_of(xs, ys)
    return found if compared == len(xs) else None


@dataclass(frozen=True, slots=True)
class _Ranked:
    """doubled: twice the rank of each value, 2 for the smallest; equal values share the mean of
    their ranks. spread: n times the variance of these, exactly, since all are integers."""

    doubled: list[int]
    spread: int


def _ranked(values: Sequence[Any]) -> _Ranked:
    """values: numbers without a gap."""
    size = len(values)
    order = sorted(range(size), key=values.__getitem__)
    # In functions of C throughout: a loop over 200,000 values takes twice the time.
    ascending = list(map(values.__getitem__, order))
    starts = compress(count(1), map(ne, ascending, islice(ascending, 1, None)))
    edges = [0, *starts, size]  # of runs of equal values
    by_rank: Iterable[int] = range(2, 2 * size + 1, 2)
    spread = (size**3 - size) // 3
    if len(edges) <= size:
        runs = list(pairwise(edges))
        by_rank = chain.from_iterable(repeat(a + b + 1, b - a) for a, b in runs)
        spread -= sum((b - a) ** 3 - (b - a) for a, b in runs) // 3
    doubled = [0] * size
    for index, rank in zip(order, by_rank, strict=True):
        doubled[index] = rank
    return _Ranked(doubled, spread)


def _correlation(a: _Ranked, b: _Ranked) -> float | None:
    spreads = a.spread * b.spread
    size = len(a.doubled)
    together = sum(map(mul, a.doubled, b.doubled)) - size * (size + 1) ** 2
    return together / math.sqrt(spreads) if spreads else None


def _has_gaps(values: Sequence[Any]) -> bool:
    return None in values or not all(map(math.isfinite, values))


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
