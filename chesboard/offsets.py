"""The scores of a pair's two responses in its dataset, and odpo's offset from them.

This is the one place that says what a pair's scores are. A row may give them as columns named after
the responses (score_chosen and score_rejected, chosen-rating and rejected-rating, and what rated
rows keep: preferred_rating and dispreferred_rating), or as columns of the first and the second
response (score_A and score_B of SHP, or the scores that say which response is preferred).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from chesboard.doctor.scores import may_hold_scores, score_columns
from chesboard.formats.choices import as_number

Floats = NDArray[np.float64]
NoOffset = Literal["unscored", "not_above", "no_ratio"]
"""Why a pair has no offset: it lacks a score; the preferred response's is not the higher one; the
ratio of its scores is not defined, as one is not above zero."""
OffsetKind = Literal["log_difference", "log_ratio"]

_OF_BOTH = ("score_a", "score_b")
_VERDICTS = ("choice", "scores", "signed", "winner")


@dataclass(frozen=True, slots=True)
class PairScores:
    """Scores of many pairs' responses; NaN, of both, where a pair has not two."""

    preferred: Floats
    dispreferred: Floats
    columns: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many pairs have them in which columns, that of the preferred response first."""


@dataclass(frozen=True, slots=True)
class Offsets:
    """Offsets of many pairs, NaN where a pair has none; and how many have none for which reason."""

    values: Floats
    reasons: Counter[NoOffset]


def columns_with_scores(
    names: Iterable[str], roles: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Those of a dataset's columns that `scores_of` reads. roles: as there."""
    named = (roles or {}).get("scores") or ()
    for name in names:
        if may_hold_scores(name) or name.casefold() in _OF_BOTH or name in named:
            yield name


def scores_of(
    cells: Mapping[str, Sequence[Any]],
    pairs: int,
    roles: Mapping[str, Any] | None = None,
    layouts: Sequence[int | None] = (),
) -> PairScores:
    """The scores of both responses of so many pairs.

    cells: column → what each pair's row has in it; None: nothing, as if the row lacked the column.
    roles: the roles of the file's columns (`chesboard.formats.columns.Columns.as_dict`), layouts:
    the layout of each row (`chesboard.formats.layouts`): they say whether the first or the second
    response is preferred.
    """
    found = PairScores(np.full(pairs, np.nan), np.full(pairs, np.nan))
    numbers = {name: _numbers(values) for name, values in cells.items()}
    is_swapped = np.array([(layout or 0) % 2 == 1 for layout in layouts], dtype=bool)
    for names, rows in _rows_by_columns(cells, pairs):
        for ours, theirs in score_columns(names):
            _fill(found, rows, numbers, ours, theirs)
        if not roles or not any(roles.get(role) for role in _VERDICTS):
            continue
        folded = {name.casefold(): name for name in names}
        first, second = roles.get("scores") or (folded.get(name) for name in _OF_BOTH)
        if first not in numbers or second not in numbers:
            continue
        if roles.get("scores"):  # the higher one is preferred
            swapped = numbers[second][rows] > numbers[first][rows]
        else:
            # In a form with a verdict, every other layout has the preferred response second.
            swapped = is_swapped[rows]
        _fill(found, rows[~swapped], numbers, first, second)
        _fill(found, rows[swapped], numbers, second, first)
    return found


def _rows_by_columns(
    cells: Mapping[str, Sequence[Any]], pairs: int
) -> Iterator[tuple[tuple[str, ...], NDArray[np.intp]]]:
    """The rows that have something in the same columns, with the names of these."""
    has = np.array([[cell is not None for cell in of] for of in cells.values()], dtype=bool)
    if has.all():
        yield tuple(cells), np.arange(pairs)
        return
    patterns, places = np.unique(has.reshape(len(cells), pairs), axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        names = tuple(name for name, is_there in zip(cells, pattern, strict=True) if is_there)
        yield names, np.flatnonzero(places.ravel() == number)


def _numbers(values: Sequence[Any]) -> Floats:
    return np.array([as_number(value) for value in values], dtype=np.float64)  # None as NaN


def _fill(
    found: PairScores,
    rows: NDArray[np.intp],
    numbers: Mapping[str, Floats],
    ours: str,
    theirs: str,
) -> None:
    """Take the scores of those of these rows that have none yet and two numbers here."""
    preferred, dispreferred = numbers[ours][rows], numbers[theirs][rows]
    is_new = np.isnan(found.preferred[rows]) & ~np.isnan(preferred) & ~np.isnan(dispreferred)
    found.preferred[rows[is_new]] = preferred[is_new]
    found.dispreferred[rows[is_new]] = dispreferred[is_new]
    if count := int(is_new.sum()):
        found.columns[ours, theirs] += count


def offsets_of(scores: PairScores, kind: OffsetKind) -> Offsets:
    """log(score+ - score-) or log(score+ / score-) of each pair (`docs/theory.md`, equation 32)."""
    high, low = scores.preferred, scores.dispreferred
    is_scored = ~np.isnan(high)
    is_above = is_scored & (high > low)
    has = is_above if kind == "log_difference" else is_above & (low > 0)
    values = np.full(len(high), np.nan)
    if kind == "log_difference":
        values[has] = np.log(high[has] - low[has])
    else:  # not the logarithm of the quotient, which may overflow
        values[has] = np.log(high[has]) - np.log(low[has])
    counts: dict[NoOffset, int] = {
        "unscored": int((~is_scored).sum()),
        "not_above": int((is_scored & ~is_above).sum()),
        "no_ratio": int((is_above & ~has).sum()),
    }
    return Offsets(values, Counter({reason: count for reason, count in counts.items() if count}))


def why_without(reasons: Mapping[NoOffset, int], pairs: int) -> str:
    """A sentence on pairs without an offset, by reason."""
    words: dict[NoOffset, str] = {
        "unscored": "without two scores",
        "not_above": "whose preferred response does not have the higher score",
        "no_ratio": "with a score that is not above zero, so without a ratio",
    }
    parts = [f"{reasons[reason]:,} {text}" for reason, text in words.items() if reasons.get(reason)]
    total = sum(reasons.values())
    verb = "has" if total == 1 else "have"
    noun = "pair" if pairs == 1 else "pairs"
    return f"{total:,} of {pairs:,} {noun} {verb} no offset ({'; '.join(parts)})."
