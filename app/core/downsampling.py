"""Downsampling of long curves that keeps every extreme, and of clouds of points.

A screen has about a thousand columns; a run may have many more steps. The steps are divided into
buckets of equal size, and in each bucket every series keeps its minimum, its maximum (as in M4:
Jugel, Jerzak, Hackenbroich, Markl, VLDB 2014) and its first gap. The rest of the budget is spread
evenly. All series are kept at the same steps, so that rows stay complete.

A cloud of which only extremes of buckets were kept would be all rim: there nearly all points are
spread evenly.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Series = Sequence[float] | NDArray[np.float64]

EXTREME_SHARE = 0.02
"""Of the points of a cloud: those that are kept as extremes."""


def pick(count: int, series: Sequence[Series], points: int) -> list[int]:
    """Indices (ascending) of the points to keep out of `count`: all of them, or about `points`.

    Keeps the first and the last point, and per bucket every series' minimum, maximum and first gap
    (NaN or infinity), if any. There is at least one bucket, so more than `points` are returned if
    `points` is less than two per series.
    """
    if count <= points:
        return list(range(count))
    arrays = [np.asarray(one, np.float64) for one in series]
    with_values = [one for one in arrays if np.isfinite(one).any()]
    kept = {0, count - 1}
    buckets = max(1, (points - 2) // max(1, 2 * len(with_values)))
    edges = [count * number // buckets for number in range(buckets + 1)]
    for one in with_values:
        for start, end in pairwise(edges):
            kept.update(start + index for index in _extremes(one[start:end]))
    if (left := points - len(kept)) > 0:
        kept.update(count * number // left for number in range(left))
    return sorted(kept)


def pick_cloud(count: int, series: Sequence[Series], points: int) -> list[int]:
    """Indices (ascending) of the points to keep out of `count`: all of them, or about `points`.

    Most are spread evenly over the indices; a fiftieth are the lowest and the highest values of
    every series, at least one of each.
    """
    if count <= points:
        return list(range(count))
    ends = max(1, int(EXTREME_SHARE * points) // max(1, 2 * len(series)))
    kept: set[int] = set()
    for one in series:
        values = np.asarray(one, np.float64)
        known = np.flatnonzero(np.isfinite(values))
        for signed in (values[known], -values[known]):
            kept.update(known[smallest_of(signed, ends)].tolist())
    left = max(0, points - len(kept))
    kept.update(count * number // left for number in range(left))
    return sorted(kept)


def smallest_of(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indices of the `count` smallest values, ascending; of equal ones those that come first.

    values: without NaN.
    """
    if len(values) <= count:
        return np.argsort(values, kind="stable")
    # Sorting a column takes many times as long as finding its count-th value.
    least = np.flatnonzero(values <= np.partition(values, count - 1)[count - 1])
    return least[np.argsort(values[least], kind="stable")][:count]


def _extremes(values: NDArray[np.float64]) -> Iterator[int]:
    """Indices of the smallest and the largest finite value, and of the first gap."""
    is_finite = np.isfinite(values)
    if is_finite.any():
        yield int(np.where(is_finite, values, np.inf).argmin())
        yield int(np.where(is_finite, values, -np.inf).argmax())
    if not is_finite.all():
        yield int(is_finite.argmin())
