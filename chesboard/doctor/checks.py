"""The checks of one pair: which issues its own texts and columns show.

They run on every pair of an upload, so each begins with what rules most texts out: that a sign is
not in the text at all.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from chesboard import refusals
from chesboard.doctor import languages, markup, responses
from chesboard.doctor.scores import Scores, pair_scores
from chesboard.issues import IssueKind
from chesboard.pairs import Prompt

LONG_CHARACTERS = 4096
"""A prompt or response longer than this is overlong: at about four characters a token, runs
with their default limits (1,024 tokens of each) truncate it."""

PREFERS_REFUSAL = "the preferred response refuses"
PREFERS_ANSWER = "the dispreferred response refuses"
PREFERS_PLACEHOLDER = "the preferred response is a placeholder"
BOTH = "both responses"


class Found(NamedTuple):
    """An issue of a pair. detail: what was seen, in a few words."""

    kind: IssueKind
    detail: str


class CheckedPair(NamedTuple):
    """The issues of one pair by itself, and the scores of its responses that its row gives."""

    found: list[Found]
    scores: Sequence[Scores]


def check_pair(
    prompt: Prompt, preferred: str, dispreferred: str, columns: Mapping[str, Any]
) -> CheckedPair:
    """Check one pair; columns: the row's other ones.

    Two kinds hold only against the rest of the dataset (`Conventions.confirms`): `no_end`, and
    `likely_swapped` for a refusal.
    """
    turns = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
    scores = pair_scores(columns) if len(columns) > 1 else ()
    seen: list[tuple[IssueKind, str | None]] = [
        ("near_identical", responses.near_identity(preferred, dispreferred)),
        ("length_ratio", responses.length_ratio(preferred, dispreferred)),
        ("language_change", languages.difference(preferred, dispreferred)),
        ("leftover_markup", markup.leftover(turns, preferred, dispreferred)),
        ("broken_text", markup.broken_part(preferred) or markup.broken_part(dispreferred)),
        ("unclosed_block", markup.unclosed(preferred) or markup.unclosed(dispreferred)),
        ("no_end", _unfinished(preferred, dispreferred)),
        ("likely_swapped", _refusal(preferred, dispreferred)),
        ("placeholder", _placeholder(preferred, dispreferred)),
        ("long", _length(turns, preferred, dispreferred)),
    ]
    found = [Found(kind, detail) for kind, detail in seen if detail]
    if scores:
        found += _against(scores)
    if any(one.kind == "placeholder" and one.detail == _PREFERRED for one in found):
        found = [one for one in found if one.kind != "likely_swapped"]
        found.append(Found("likely_swapped", PREFERS_PLACEHOLDER))
    return CheckedPair(found, scores)


_PREFERRED = "preferred response"
_DISPREFERRED = "dispreferred response"


def _refusal(preferred: str, dispreferred: str) -> str | None:
    refuses = refusals.is_refusal(preferred)
    if refuses == refusals.is_refusal(dispreferred):
        return None
    return PREFERS_REFUSAL if refuses else PREFERS_ANSWER


def _placeholder(preferred: str, dispreferred: str) -> str | None:
    """Which response is a placeholder, where the other one is an answer."""
    for side, text, other in (
        (_PREFERRED, preferred, dispreferred),
        (_DISPREFERRED, dispreferred, preferred),
    ):
        if len(text) <= refusals.LONGEST_PLACEHOLDER and refusals.is_placeholder(text):
            return side if len(other) >= refusals.ANSWER_CHARACTERS else None
    return None


def _against(scores: Sequence[Scores]) -> list[Found]:
    """A pair is scored alike if one pair of columns says so and none says the opposite."""
    for one in scores:
        if one.preferred < one.dispreferred:
            detail = f"{one.preferred:g} < {one.dispreferred:g} ({', '.join(one.columns)})"
            return [Found("scores_against", detail)]
    for one in scores:
        if one.preferred == one.dispreferred:
            return [Found("scores_tied", f"{one.preferred:g} ({', '.join(one.columns)})")]
    return []


def _unfinished(preferred: str, dispreferred: str) -> str | None:
    ours, theirs = responses.is_unfinished(preferred), responses.is_unfinished(dispreferred)
    if ours and theirs:
        return BOTH
    return _PREFERRED if ours else _DISPREFERRED if theirs else None


def _length(turns: Sequence[str], preferred: str, dispreferred: str) -> str | None:
    longest = max(sum(map(len, turns)), len(preferred), len(dispreferred))
    return f"{longest:,} characters" if longest > LONG_CHARACTERS else None
