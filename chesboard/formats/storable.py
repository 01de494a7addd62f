"""Values of cells as PostgreSQL can store them in JSON."""

import math
from collections.abc import Callable
from typing import Any

from chesboard.formats.dialogues import UnusableError
from chesboard.formats.text import find_unstorable

MAX_DEPTH = 64
"""Maximum nesting of a value; JSON encoders and pages that handle it later have limits too."""


Text = Callable[[str], str]


def storable(value: Any, field: str, text: Text, depth: int = 1, *, may_cut: bool = False) -> Any:
    """The value as PostgreSQL can store it in JSON: NaN and infinity become null.

    text: what becomes of each text in it, names of fields included.
    may_cut: what is nested too deeply becomes null.

    Raises:
        UnusableError: it is nested too deeply, or `text` raised it.
    """
    match value:
        case str():
            return text(value)
        case float():
            return value if math.isfinite(value) else None
        case list() | dict() if depth > MAX_DEPTH:
            if may_cut:
                return None
            raise UnusableError(field, f"nested too deeply (more than {MAX_DEPTH} levels)")
        case list():
            return [storable(item, field, text, depth + 1, may_cut=may_cut) for item in value]
        case dict():
            return {
                text(key): storable(item, field, text, depth + 1, may_cut=may_cut)
                for key, item in value.items()
            }
    return value


def storable_text(text: str, field: str) -> str:
    """The text itself.

    Raises:
        UnusableError: it holds a NUL character or a lone surrogate.
    """
    found = find_unstorable(text)
    if found is None:
        return text
    if found.is_null:
        raise UnusableError(field, "holds a NUL character, which PostgreSQL cannot store")
    raise UnusableError(
        field, f"is broken Unicode at character {found.position + 1} (not valid UTF-8)"
    )
