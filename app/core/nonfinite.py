"""Replace NaN and ±infinity by None: JSON (and so JSONB) cannot encode them."""

import math
from typing import Any


def finite_or_none(value: float | None) -> float | None:
    """The value, or None for NaN and ±infinity."""
    return value if value is not None and math.isfinite(value) else None


def nonfinite_to_none(value: Any) -> Any:
    """Replace NaN and ±infinity by None, recursively."""
    match value:
        case float():
            return finite_or_none(value)
        case list() | tuple():
            return value if _all_finite(value) else [nonfinite_to_none(part) for part in value]
        case dict():
            return {name: nonfinite_to_none(part) for name, part in value.items()}
    return value


def _all_finite(values: Any) -> bool:
    """Whether it is a list of finite numbers only, by one sum: many times faster than testing each.

    May be False for finite numbers whose sum overflows.
    """
    if not isinstance(values, list) or not values or not isinstance(values[0], float):
        return False
    try:
        return math.isfinite(sum(values))
    except TypeError:
        return False
