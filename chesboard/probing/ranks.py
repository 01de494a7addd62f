"""Spearman's rank correlation, without numpy or torch: the web side computes it too."""

import math
from collections.abc import Sequence
from statistics import StatisticsError, correlation


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """The correlation of the ranks, ties averaged.

    None for fewer than two values, where one side is constant, and where a value is not finite.
    """
    if not (all(map(math.isfinite, xs)) and all(map(math.isfinite, ys))):
        return None
    try:
        return correlation(average_ranks(xs), average_ranks(ys))
    except StatisticsError:
        return None


def average_ranks(values: Sequence[float]) -> list[float]:
    """1 for the smallest; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + end + 1) / 2
        start = end
    return ranks
