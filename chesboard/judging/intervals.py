"""Confidence intervals of a rate."""

import math
from statistics import NormalDist

CONFIDENCE = 0.95


def wilson_interval(
    positive: int, total: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The Wilson score interval of a binomial proportion (Wilson 1927), as fractions.

    Unlike the normal approximation it stays within [0, 1] and has a width at 0 and at `total`.

    Raises:
        ValueError: not 0 ≤ positive ≤ total with total ≥ 1, or no confidence between 0 and 1.
    """
    if not 0 <= positive <= total or total < 1:
        raise ValueError(f"{positive} of {total} is no proportion")
    if not 0 < confidence < 1:
        raise ValueError("confidence lies between 0 and 1")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = positive / total
    scale = 1 + z * z / total
    center = (rate + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    # At the ends the bound is exact; rounding may leave it a little inside or outside.
    low = 0.0 if positive == 0 else max(0.0, center - half)
    high = 1.0 if positive == total else min(1.0, center + half)
    return low, high
