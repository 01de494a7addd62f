"""Preference pairs from judged answers to the same prompt.

As in the third figure of Razin et al. (arXiv 2410.08847): of two answers the one that is judged
positively is preferred; where the judge says the same of both, the order is drawn.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Ties = Literal["random", "skip", "score"]
Prefer = Literal["positive", "negative"]
PairKind = Literal["different", "both_positive", "both_negative", "by_score"]
"""different: one answer is judged positively and one negatively. both_*: all that have a verdict
have the same. by_score: none has a verdict, and scores decide (a reward model's)."""
Unpaired = Literal["single", "unjudged", "same_text", "tied", "skipped"]
"""single: fewer than two answers. unjudged: fewer than two with a verdict, and no scores asked for
or there. same_text: the answers that would make the pair are the same. tied: the same score, or
none, where scores decide. skipped: a tie where ties are skipped."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer to the prompt. text: to tell answers that are the same."""

    sample: int
    text: str
    verdict: bool | None
    score: float | None


@dataclass(frozen=True, slots=True)
class AnswerPair:
    preferred: Judged
    dispreferred: Judged
    kind: PairKind


def pair_answers(
    prompt: int,
    answers: Sequence[Judged],
    *,
    ties: Ties = "random",
    prefer: Prefer = "positive",
    seed: int = 0,
) -> AnswerPair | Unpaired:
    """The pair that a prompt's answers make, or why they make none.

    prompt: its number, from which with the seed the order of ties is drawn, so that it does not
    depend on the other prompts. Of several answers with the same verdict the first counts: they are
    drawn alike, and a choice by anything else would bias the pairs. Only `ties="score"` looks at
    all of them, for the highest and the lowest score.
    prefer: negative turns verdicts and scores round, for a judge that looks for what is unwanted.
    """
    if len(answers) < 2:
        return "single"
    positive = [one for one in answers if one.verdict is True]
    negative = [one for one in answers if one.verdict is False]
    if positive and negative:
        best, worst = positive[0], negative[0]
        return _pair(*((best, worst) if prefer == "positive" else (worst, best)), "different")
    judged = positive or negative
    if len(judged) >= 2:
        kind: PairKind = "both_positive" if positive else "both_negative"
        if ties == "skip":
            return "skipped"
        if ties == "score":
            return _by_score(judged, kind, prefer)
        first, second = judged[:2]
        is_swapped = random.Random(f"{seed}:{prompt}").random() < 0.5  # noqa: S311 - no secret
        return _pair(*((second, first) if is_swapped else (first, second)), kind)
    if ties == "score" and not judged:
        return _by_score(answers, "by_score", prefer)
    return "unjudged"


def _by_score(answers: Sequence[Judged], kind: PairKind, prefer: Prefer) -> AnswerPair | Unpaired:
    scored = [(one.score, -one.sample, one) for one in answers if one.score is not None]
    scored.sort(key=lambda entry: entry[:2])
    if len(scored) < 2 or scored[0][0] == scored[-1][0]:
        return "unjudged" if not scored and kind == "by_score" else "tied"
    low, high = scored[0][2], scored[-1][2]
    return _pair(*((high, low) if prefer == "positive" else (low, high)), kind)


def _pair(preferred: Judged, dispreferred: Judged, kind: PairKind) -> AnswerPair | Unpaired:
    if preferred.text == dispreferred.text:
        return "same_text"
    return AnswerPair(preferred, dispreferred, kind)
