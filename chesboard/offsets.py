"""The scores of a pair's two responses in its dataset, and odpo's offset from them.

This is the one place that says what a pair's scores are. A row may give them as columns named after
the responses (score_chosen and score_rejected, chosen-rating and rejected-rating, and what rated
rows keep: preferred_rating and dispreferred_rating), or as columns of the first and the second
response (score_A and score_B of SHP, or the scores that say which response is preferred).
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from chesboard.doctor.scores import Scores, pair_scores
from chesboard.formats.choices import as_number

NoOffset = Literal["unscored", "not_above", "no_ratio"]
"""Why a pair has no offset: it lacks a score; the preferred response's is not the higher one; the
ratio of its scores is not defined, as one is not above zero."""
OffsetKind = Literal["log_difference", "log_ratio"]

_OF_BOTH = ("score_a", "score_b")
_VERDICTS = ("choice", "scores", "signed", "winner")


class Offset(NamedTuple):
    """What is known of a pair: its offset, or why it has none."""

    value: float | None
    reason: NoOffset | None
    scores: Scores | None


def scores_of(
    meta: Mapping[str, Any],
    columns: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
) -> Scores | None:
    """The scores of the preferred and of the dispreferred response; None without two.

    meta: the row's other columns. columns: the roles of the file's columns
    (`chesboard.formats.columns.Columns.as_dict`), source: what the pair keeps of its row's layout
    (`chesboard.formats.layouts`): they say whether the first or the second response is preferred.
    """
    if found := pair_scores(meta):
        return found[0]
    if not columns or not any(columns.get(role) for role in _VERDICTS):
        return None
    folded = {name.casefold(): name for name in meta}
    names = columns.get("scores") or [folded.get(name) for name in _OF_BOTH]
    first, second = (as_number(meta.get(name)) if name else None for name in names)
    if first is None or second is None:
        return None
    if columns.get("scores"):  # the higher one is preferred
        is_swapped = second > first
    else:
        # In a form with a verdict, every other layout has the preferred response second.
        is_swapped = (source or {}).get("layout", 0) % 2 == 1
    if is_swapped:
        return Scores(second, first, (names[1], names[0]))
    return Scores(first, second, (names[0], names[1]))


def offset_of(scores: Scores | None, kind: OffsetKind) -> Offset:
    """log(score+ - score-) or log(score+ / score-) (`docs/theory.md`, equation 32)."""
    if scores is None:
        return Offset(None, "unscored", None)
    if scores.preferred <= scores.dispreferred:
        return Offset(None, "not_above", scores)
    if kind == "log_difference":
        difference = scores.preferred - scores.dispreferred
        return Offset(math.log(difference), None, scores)
    if scores.dispreferred <= 0:
        return Offset(None, "no_ratio", scores)
    value = math.log(scores.preferred) - math.log(scores.dispreferred)
    return Offset(value, None, scores)


def why_without(reasons: Mapping[str, int], pairs: int) -> str:
    """A sentence on pairs without an offset, by reason."""
    words = {
        "unscored": "without two scores",
        "not_above": "whose preferred response does not have the higher score",
        "no_ratio": "with a score that is not above zero, so without a ratio",
    }
    parts = [f"{reasons[reason]:,} {text}" for reason, text in words.items() if reasons.get(reason)]
    total = sum(reasons.values())
    verb = "has" if total == 1 else "have"
    noun = "pair" if pairs == 1 else "pairs"
    return f"{total:,} of {pairs:,} {noun} {verb} no offset ({'; '.join(parts)})."
