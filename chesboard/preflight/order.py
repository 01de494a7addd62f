"""An order of the pairs of an influence matrix in which those that act alike stand together.

Average-linkage clustering of a few dozen pairs. No torch: the web side orders stored matrices.
"""

import math
from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]
"""Square: entry [i][j] is what pair i does to pair j."""


def clustered_order(matrix: Matrix) -> list[int]:
    """The indices of the rows, by the leaves of the tree that merges the nearest clusters first.

    Pairs are near that act, and are acted on, in the same proportions whatever the size.
    """
    profiles = [_unit([*row, *(other[i] for other in matrix)]) for i, row in enumerate(matrix)]
    distance = [[math.dist(a, b) for b in profiles] for a in profiles]
    clusters = [[i] for i in range(len(matrix))]
    while len(clusters) > 1:
        _, left, right = min(
            (_average(distance, a, b), i, i + 1 + j)
            for i, a in enumerate(clusters)
            for j, b in enumerate(clusters[i + 1 :])
        )
        second = clusters.pop(right)
        clusters[left] = _joined(distance, clusters[left], second)
    return clusters[0] if clusters else []


def _unit(values: Sequence[float]) -> list[float]:
    size = math.hypot(*values)
    if not 0 < size < math.inf:
        return [0.0] * len(values)
    return [value / size for value in values]


def _average(distance: Matrix, a: Sequence[int], b: Sequence[int]) -> float:
    return sum(distance[i][j] for i in a for j in b) / (len(a) * len(b))


def _joined(distance: Matrix, a: list[int], b: list[int]) -> list[int]:
    """Both orders, each turned so that the ends that meet are the nearest."""
    turned = [(x, y) for x in (a, a[::-1]) for y in (b, b[::-1])]
    first, second = min(turned, key=lambda both: distance[both[0][-1]][both[1][0]])
    return [*first, *second]
