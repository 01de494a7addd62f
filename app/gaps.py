"""Numbers that JSON, and so JSONB, has no word for."""

import math
from typing import Any


def gaps(value: Any) -> Any:
    """The same numbers with None in place of NaN and infinity, however deep they lie."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple():
            return [gaps(part) for part in value]
        case dict():
            return {name: gaps(part) for name, part in value.items()}
    return value
