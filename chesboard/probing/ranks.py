"""Spearman's rank correlation, without torch: the web side computes it too."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Column = Sequence[float | None] | NDArray[np.float64]
"""Values with gaps: None, NaN or an infinity."""

_PART = 4096
"""Products of ranks that are summed in 64 bits: so many stay below 2^63 up to 23 million values."""


def spearman_of(xs: Column, ys: Column) -> tuple[float | None, int]:
    """(Spearman's correlation over the places where neither side has a gap, how many these are)."""
    return spearman_of_each([xs], ys)[0]


def spearman_of_each(columns: Iterable[Column], ys: Column) -> list[tuple[float | None, int]]:
    """`spearman_of` of each of the columns with ys, which are ranked once where nothing is left
    out.

    Raises:
        ValueError: a column has not as many values as ys.
    """
    right = np.asarray(ys, np.float64)  # None becomes NaN
    is_whole = np.isfinite(right)
    of_ys = _ranked(right[is_whole])
    found = []
    for xs in columns:
        left = np.asarray(xs, np.float64)
        if len(left) != len(right):
            raise ValueError(f"{len(left)} values cannot be ranked against {len(right)}")
        both = np.isfinite(left) & is_whole
        against = of_ys
        if np.count_nonzero(both) < len(of_ys.doubled):
            against = _ranked(right[both])
        found.append((_correlation(_ranked(left[both]), against), len(against.doubled)))
    return found


def spearman(xs: Column, ys: Column) -> float | None:
    """The correlation of the ranks, ties averaged.

    None for fewer than two values, where one side is constant, and where a value is not finite.
    """
    found, compared = spearman_of(xs, ys)
    return found if compared == len(xs) else None


@dataclass(frozen=True, slots=True)
class _Ranked:
    """doubled: twice the rank of each value, 2 for the smallest; equal values share the mean of
    their ranks. spread: n times the variance of these, exactly, since all are integers."""

    doubled: NDArray[np.int64]
    spread: int


def _ranked(values: NDArray[np.float64]) -> _Ranked:
    """values: without a gap."""
    size = len(values)
    order = np.argsort(values)
    ascending = values[order]
    is_tied = ascending[1:] == ascending[:-1]
    by_rank, ties = np.arange(2, 2 * size + 1, 2), 0
    if is_tied.any():
        edges = np.concatenate(([0], np.flatnonzero(~is_tied) + 1, [size]))  # of equal values
        lengths = np.diff(edges)
        by_rank = np.repeat(edges[1:] + edges[:-1] + 1, lengths)
        ties = sum(length**3 - length for length in lengths[lengths > 1].tolist())
    doubled = np.empty(size, np.int64)
    doubled[order] = by_rank
    return _Ranked(doubled, (size**3 - size - ties) // 3)


def _correlation(a: _Ranked, b: _Ranked) -> float | None:
    size = len(a.doubled)
    spreads = a.spread * b.spread
    if not spreads:
        return None
    sums = np.add.reduceat(a.doubled * b.doubled, np.arange(0, size, _PART))
    together: int = sum(sums.tolist()) - size * (size + 1) ** 2
    return together / math.sqrt(spreads)
