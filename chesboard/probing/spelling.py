"""Spelling variants: tokens that are one word up to case, leading space and punctuation."""

import unicodedata

_AT_THE_ENDS = ("P", "Z", "C")
"""Unicode categories that are cut off both ends of a token: punctuation, spaces, controls."""


def same_word(one: str, other: str) -> bool:
    """Whether two tokens are spellings of one word: "No", " no", "NO," and "**No" are.

    Numbers differ by their signs, and tokens without a letter or digit are equal only to
    themselves.
    """
    return one == other or (bare_word(one) != "" and bare_word(one) == bare_word(other))


def bare_word(token: str) -> str:
    """The token without case and without what surrounds its word; empty where it has none."""
    text = _folded(token).strip()
    start, end = 0, len(text)
    while start < end and _is_cut(text[start]):
        start += 1
    while end > start and _is_cut(text[end - 1]):
        end -= 1
    # "-1" is no spelling of "1".
    return text if text[start:end][:1].isnumeric() else text[start:end]


def _folded(token: str) -> str:
    """Compatibility forms (NFKC) without case, and one kind of apostrophe."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", token).casefold())
    return folded.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def _is_cut(character: str) -> bool:
    return unicodedata.category(character)[0] in _AT_THE_ENDS
