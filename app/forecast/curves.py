"""How many pairs still fall at each value of a remedy, and which values to recommend."""

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, Context

import numpy as np

from app.core.packed import Floats
from app.forecast.schemas import CurvePoint, RemedyCurve
from chesboard.configs import ObjectiveConfig
from chesboard.forecast import TRAINED_BY, WITHOUT, Remedy

TOLERATED = 20
"""One pair in so many may fall at the recommended value."""
CURVE_POINTS = 200
_THREE_DIGITS = Context(prec=3, rounding=ROUND_CEILING)


def remedy_curve(
    remedy: Remedy, config: ObjectiveConfig, smallest: Sequence[float] | Floats, pairs: int
) -> RemedyCurve:
    """smallest: of the pairs that fall, the value nearest to none at which they do not. pairs:
    all."""
    # Of a remedy that gets stronger downwards, everything is computed of the negated values.
    none = WITHOUT[remedy]
    sign = -1 if none else 1
    ascending = np.sort(sign * np.asarray(smallest, np.float64))
    tolerated = pairs // TOLERATED
    recommended = _up(ascending[-1 - tolerated]) if len(ascending) > tolerated else sign * none
    prevents_all = _up(ascending[-1]) if len(ascending) else sign * none
    values = {sign * none, recommended, prevents_all, *map(_up, _quantiles(ascending).tolist())}
    shown = [value for value in sorted(values) if _is_setting(value, sign)]
    falling = len(ascending) - np.searchsorted(ascending, shown, side="right")
    return RemedyCurve(
        remedy=remedy,
        objective=TRAINED_BY.get(remedy, config.objective),
        recommended=sign * recommended if _is_setting(recommended, sign) else None,
        prevents_all=sign * prevents_all if _is_setting(prevents_all, sign) else None,
        curve=[
            CurvePoint(value=sign * value, falling=still)
            for value, still in zip(shown, falling.tolist(), strict=True)
        ],
    )


def _is_setting(value: float, sign: int) -> bool:
    """Whether a run can be given it: a number, and of what gets stronger downwards above 0."""
    return math.isfinite(value) and (sign > 0 or value < 0)


def _quantiles(ascending: Floats) -> Floats:
    """All values where they are few, else evenly spaced ones."""
    if len(ascending) <= CURVE_POINTS:
        return ascending
    last = len(ascending) - 1
    return ascending[[round(last * step / CURVE_POINTS) for step in range(CURVE_POINTS + 1)]]


def _up(value: float) -> float:
    """Rounded up to three significant digits: a pair does not fall at the rounded value either."""
    return float(_THREE_DIGITS.create_decimal_from_float(value))
