"""The largest drawdown of a series: how far it fell from a peak to a later trough."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drawdown:
    """size = peak - trough, and the steps at which they were recorded."""

    size: float
    peak: float
    peak_step: int
    trough: float
    trough_step: int


def largest_drawdown(steps: Sequence[int], values: Sequence[float | None]) -> Drawdown | None:
    """max over t < t' of value_t - value_t', as in Tables 1 to 4 of arXiv 2410.08847.

    Unlike the first value minus the last, it also sees a fall that was made up for later. Gaps
    (None, NaN, infinities) are left out. None where the series never falls.
    """
    largest: Drawdown | None = None
    peak, peak_step = -math.inf, -1
    for step, value in zip(steps, values, strict=True):
        if value is None or not math.isfinite(value):
            continue
        if value > peak:
            peak, peak_step = value, step
        elif peak - value > (largest.size if largest else 0):
            largest = Drawdown(peak - value, peak, peak_step, value, step)
    return largest
