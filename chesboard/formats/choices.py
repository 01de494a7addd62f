"""Which of a row's two responses is preferred, by the columns that say so.

    choice    a column with one of two values                    1 or 2
    scores    a column of each response; the higher is better    7.5 and 3
    signed    a number, negative where the first is better       -2
    winner    the name of the preferred response                 "response_a", "model_a", "A", "a"

A tie is no preference: the row is rejected as undecided.
"""

import math
import re
from typing import Any

from chesboard.formats.columns import Columns
from chesboard.formats.dialogues import UnusableError

_TIES = frozenset(
    {
        *("tie", "tie (bothbad)", "tie (both bad)", "bothbad", "both bad", "both good", "both"),
        *("neither", "none", "equal", "draw", "same", "no preference", "undecided", "unsure"),
    }
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")


def ordered(cells: dict[str, Any], columns: Columns) -> tuple[Any, Any]:
    """(preferred, dispreferred) response.

    Raises:
        UnusableError: a response or a verdict is missing, or neither is preferred.
    """
    first, second = required(cells, columns.preferred), required(cells, columns.dispreferred)
    return (first, second) if first_is_preferred(cells, columns) else (second, first)


def first_is_preferred(cells: dict[str, Any], columns: Columns) -> bool:
    """Whether the response in `columns.preferred` is the preferred one; without a verdict it is.

    Raises:
        UnusableError: the verdict is missing, is none, or prefers neither.
    """
    if columns.choice:
        return _is_first_value(cells, columns.choice)
    if columns.scores:
        return _has_higher_score(cells, columns.scores)
    if columns.signed:
        preference = number(cells, columns.signed)
        if preference == 0:
            raise UnusableError(columns.signed, "is 0: neither is preferred", "undecided")
        return preference < 0
    if columns.winner:
        said = required(cells, columns.winner)
        return _names_first(said, columns.winner, columns.preferred, columns.dispreferred)
    return True


def disagrees(cells: dict[str, Any], columns: Columns) -> bool:
    """Whether the second opinion prefers the other response; False where it is missing."""
    if columns.choice is None or cells.get(columns.second_opinion or "") is None:
        return False
    second = (columns.second_opinion or "", *columns.choice[1:])
    try:
        return _is_first_value(cells, columns.choice) != _is_first_value(cells, second)
    except UnusableError:
        return False


def is_by_number(cells: dict[str, Any], columns: Columns) -> bool:
    """Whether `winner` says 1 or 2 for columns whose names have no number."""
    keys = _keys(columns.preferred, columns.dispreferred)
    if columns.winner is None or keys[0].isdigit():
        return False
    return _words(cells.get(columns.winner)) in (["1"], ["2"])


def required(cells: dict[str, Any], name: str) -> Any:
    """The cell.

    Raises:
        UnusableError: it is missing or null.
    """
    value = cells.get(name)
    if value is None:
        raise UnusableError(name, "is missing", "missing")
    return value


def number(cells: dict[str, Any], name: str) -> float:
    """The cell as a number.

    Raises:
        UnusableError: it is missing or none.
    """
    value = as_number(required(cells, name))
    if value is None:
        raise UnusableError(name, "must be a number", "undecided")
    return value


def as_number(value: Any) -> float | None:
    """The finite number that a value is or, in text, denotes; None for any other value."""
    try:
        # In CSV every value is text. A boolean is ambiguous as a choice of two.
        found = float("" if isinstance(value, bool) or value is None else value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _is_first_value(cells: dict[str, Any], choice: tuple[str, int | str, int | str]) -> bool:
    name, first, second = choice
    if isinstance(first, str) or isinstance(second, str):
        said: Any = _folded(required(cells, name))
        values: tuple[Any, Any] = _folded(first), _folded(second)
    else:
        said, values = number(cells, name), (first, second)
    if said not in values:
        raise UnusableError(
            name, f"must be {first} or {second}, which says the preferred response", "undecided"
        )
    return bool(said == values[0])


def _has_higher_score(cells: dict[str, Any], scores: tuple[str, str]) -> bool:
    ours, theirs = (number(cells, name) for name in scores)
    if ours == theirs:
        raise UnusableError(scores[1], f"equals {scores[0]}: neither is preferred", "undecided")
    return ours > theirs


def _names_first(said: Any, field: str, first: str, second: str) -> bool:
    if isinstance(said, str) and _folded(said) in _TIES:
        raise UnusableError(field, "is a tie: neither is preferred", "undecided")
    if isinstance(said, str) and _folded(said) in (_folded(first), _folded(second)):
        return _folded(said) == _folded(first)
    words, keys = _words(said), _keys(first, second)
    if 1 <= len(words) <= 2 and words[-1] in keys:
        return words[-1] == keys[0]
    if words in (["1"], ["2"]) and not keys[0].isdigit():
        return words == ["1"]
    raise UnusableError(field, f"names neither {first} nor {second}", "undecided")


def _keys(first: str, second: str) -> tuple[str, str]:
    """What the two names differ in, if it is one word: response_a, response_b -> a, b."""
    ours, theirs = _words(first), _words(second)
    differing = [pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]]
    if len(ours) == len(theirs) and len(differing) == 1:
        return differing[0]
    return _folded(first), _folded(second)


def _words(value: Any) -> list[str]:
    """ "Model A" -> model, a; 1.0 -> 1; nothing for truth values and other kinds."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return []
    if (numeric := as_number(value)) is not None and numeric.is_integer():
        return [str(int(numeric))]
    return [word.casefold() for word in _WORD.findall(str(value))]


def _folded(value: Any) -> str:
    words = _words(value)
    return words[0] if len(words) == 1 and words[0].isdigit() else str(value).strip().casefold()
