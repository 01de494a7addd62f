"""The part of each text in which an issue is seen, for an example of it."""

from collections.abc import Sequence

from rapidfuzz.distance import Prefix

from chesboard.issues import IssueKind
from chesboard.pairs import Prompt

EXCERPT = 360
"""Characters of an excerpt."""
_BEFORE = 80
"""Characters that an excerpt has before the place that matters."""


def excerpts(
    kind: IssueKind, detail: str | None, prompt: Prompt, preferred: str, dispreferred: str
) -> tuple[str, str, str]:
    """Excerpts of the prompt and of both responses, for an example of an issue."""
    turns = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
    mark = detail if kind in ("leftover_markup", "broken_text") else None
    asked = _cut(_turn_with(mark, turns), mark)
    if kind in ("no_end", "unclosed_block"):
        return asked, _end(preferred), _end(dispreferred)
    if kind == "near_identical":
        # Where they fork; a pair that differs in blanks may fork there.
        fork = Prefix.similarity(preferred, dispreferred)
        return asked, _around(preferred, fork), _around(dispreferred, fork)
    return asked, _cut(preferred, mark), _cut(dispreferred, mark)


def _turn_with(mark: str | None, turns: Sequence[str]) -> str:
    """The last turn that contains the mark; without one, the last turn."""
    marked = [turn for turn in turns if mark and mark in turn]
    return (marked or turns or [""])[-1]


def _cut(text: str, mark: str | None) -> str:
    return _around(text, max(0, text.find(mark)) if mark else 0)


def _around(text: str, place: int) -> str:
    if len(text) <= EXCERPT:
        return text
    start = max(0, min(place - _BEFORE, len(text) - EXCERPT))
    part = text[start : start + EXCERPT]
    return f"{'…' * (start > 0)}{part}{'…' * (start + EXCERPT < len(text))}"


def _end(text: str) -> str:
    return _around(text, len(text))
