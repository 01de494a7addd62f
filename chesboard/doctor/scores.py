"""Scores of the two responses among a row's other columns, recognized by the columns' names."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from chesboard.formats.choices import as_number

_SIDES = (
    ("chosen", "rejected"),
    ("preferred", "dispreferred"),
    ("accepted", "rejected"),
    ("positive", "negative"),
    ("pos", "neg"),
    ("winner", "loser"),
    ("win", "lose"),
    ("winning", "losing"),
    ("better", "worse"),
    ("good", "bad"),
)
_MEASURES = frozenset(
    {"score", "scores", "rating", "ratings", "reward", "rewards", "grade", "grades", "quality"}
    | {"helpfulness", "points", "overall"}
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_MAX_NAME = 100


class Scores(NamedTuple):
    """The scores of a pair, and the columns that hold them."""

    preferred: float
    dispreferred: float
    columns: tuple[str, str]


def pair_scores(columns: Mapping[str, Any]) -> list[Scores]:
    """The scores of both responses, by every pair of columns that gives them as finite numbers."""
    found = []
    for names in score_columns(tuple(columns)):
        preferred, dispreferred = (as_number(columns[name]) for name in names)
        if preferred is not None and dispreferred is not None:
            found.append(Scores(preferred, dispreferred, names))
    return found


def may_hold_scores(name: str) -> bool:
    """Whether a column's name is that of a score."""
    return _words(name) is not None


@lru_cache(maxsize=256)
def score_columns(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The pairs of columns that hold scores of both responses, by the names of all columns:
    ("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating"), ..."""
    by_words = {words: name for name in names if (words := _words(name)) is not None}
    pairs = (
        (name, by_words[other])
        for words, name in by_words.items()
        for other in _counterparts(words)
        if other in by_words
    )
    return tuple(pairs)


def _words(name: str) -> tuple[str, ...] | None:
    """The words of a column's name, if one of them is a score's."""
    words = tuple(word.lower() for word in _WORDS.findall(name[:_MAX_NAME]))
    return words if _MEASURES.intersection(words) else None


def _counterparts(words: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """The names of the other response's column, if these words name the preferred one's."""
    for ours, theirs in _SIDES:
        if ours in words:
            yield tuple(theirs if word == ours else word for word in words)
