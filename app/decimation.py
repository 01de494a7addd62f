"""Fewer points of long curves, chosen so that every extreme survives.

A screen has about a thousand columns; a run may have many more steps. The steps are cut into
buckets of like size, and of each bucket every series keeps its smallest and its largest value
(as M4 does: Jugel, Jerzak, Hackenbroich, Markl, VLDB 2014) and its first gap. What is left of the
allowance is spread evenly. All series are kept at the same steps, so a row stays whole.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

Series = Sequence[float | None]


def pick(count: int, series: Sequence[Series], points: int) -> list[int]:
    """Places (ascending) of the points to keep out of `count`: all of them, or about `points`.

    First and last are kept, and of every series its minimum, its maximum and a gap (None, NaN,
    infinity) where there is one, in each bucket. There is at least one bucket, so that more than
    `points` come back where `points` is less than two for each series.
    """
    if count <= points:
        return list(range(count))
    told = [one for one in series if any(value is not None for value in one)]
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
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if finite:
        yield values.index(min(finite))
        yield values.index(max(finite))
    if len(finite) < len(values):
        yield next(
            place for place, value in enumerate(values) if value is None or not math.isfinite(value)
        )
