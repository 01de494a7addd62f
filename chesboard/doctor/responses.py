"""What comparing the two responses shows, and whether a response ends where a sentence does."""

import re

from rapidfuzz.distance import Levenshtein

NEAR = 0.05
"""Responses whose normalized edit distance is at most this are nearly the same."""
MIN_COMPARED = 40
"""Shorter responses are nearly the same only if case, blanks and punctuation are all that differs:
a few characters make an answer of a few words another answer."""
MAX_COMPARED = 20_000
"""Longer responses are not compared by edit distance, which takes time with their square."""
MAX_RATIO = 10
MIN_LONGER = 200
"""Lengths are compared where the longer response has so many characters: "Yes" and a sentence
differ by as much and mean nothing."""
MIN_ENDED = 60
"""A response of fewer characters may end without punctuation: it is a word or a name."""

_NOT_LETTERS = re.compile(r"[\W_]+")
_CLOSERS = "\"'”’»)]}*_` \t\r\n"
_UNFINISHED = frozenset(",;-–—([{&/")
_HEAD = 40
# The last line of a list, table, heading, code, address or signature ends as it likes.
_FREE_LINE = re.compile(r"\s*(?:[-*•+#|>$~]|\d+[.):]|[A-Za-z][.)]\s|`|<|\\)")
_MIN_LINE_WORDS = 5


def near_identity(preferred: str, dispreferred: str) -> str | None:
    """In words how little two responses differ; None if they differ by more."""
    shorter, longer = sorted((len(preferred), len(dispreferred)))
    if longer > 1.1 * shorter + 8:
        return None
    if _may_fold_alike(preferred, dispreferred, longer) and fold(preferred) == fold(dispreferred):
        return "but for case, blanks and punctuation"
    is_in_range = MIN_COMPARED <= longer <= MAX_COMPARED and longer - shorter <= NEAR * longer
    if not is_in_range:
        return None
    distance = Levenshtein.distance(preferred, dispreferred, score_cutoff=int(NEAR * longer))
    if distance > NEAR * longer:
        return None
    return f"{distance} of {longer:,} characters differ"


def fold(text: str) -> str:
    """A text without case, blanks and punctuation; of one without letters or digits, all of it."""
    return _NOT_LETTERS.sub("", text.casefold()) or text


def _may_fold_alike(preferred: str, dispreferred: str, longer: int) -> bool:
    """Whether the beginnings do not rule it out."""
    if longer <= _HEAD:
        return True
    heads = [fold(text[:_HEAD]) for text in (preferred, dispreferred)]
    return heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])


def length_ratio(preferred: str, dispreferred: str) -> str | None:
    """How many times as long one response is, in words, if that is more than MAX_RATIO."""
    shorter, longer = sorted((len(preferred), len(dispreferred)))
    if longer < MIN_LONGER or longer <= MAX_RATIO * shorter:
        return None
    return f"{longer / max(shorter, 1):,.0f} times as long"


def is_unfinished(response: str) -> bool:
    """Whether a response ends in mid-sentence: on a letter or a comma, in a line of prose."""
    if len(response) < MIN_ENDED:
        return False
    text = response.rstrip()
    if not text[-1:].isalpha() and text.rstrip(_CLOSERS)[-1:] not in _UNFINISHED:
        return False
    line = text[text.rfind("\n") + 1 :]
    words = line.split()
    is_prose = len(words) >= _MIN_LINE_WORDS and not _FREE_LINE.match(line)
    return is_prose and "://" not in words[-1]
