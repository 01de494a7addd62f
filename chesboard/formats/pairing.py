"""Rules that make pairs of a prompt's rated responses.

    best_worst   the best against the worst
    best_rest    the best against each that is rated lower
    all          every two responses whose ratings differ
    gap:1.5      every two responses whose ratings differ by at least 1.5

Of responses with the same rating the first counts as the best or the worst. Two responses with the
same rating never make a pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from chesboard.formats.choices import as_number
from chesboard.formats.errors import FormatError

Rule = Literal["best_worst", "best_rest", "all", "gap"]

RULES: dict[Rule, str] = {
    "best_worst": "best and worst",
    "best_rest": "best and each other",
    "all": "all that differ",
    "gap": "all that differ by at least",
}
"""Labels of the rules, for a choice between them."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """A rule; `gap` is the least difference of the ratings for the rule of that name."""

    rule: Rule = "best_worst"
    gap: float | None = None

    def __str__(self) -> str:
        return self.rule if self.gap is None else f"{self.rule}:{self.gap:g}"

    def in_words(self) -> str:
        """What makes a pair, as a clause."""
        match self.rule:
            case "best_worst":
                return "the best and the worst make a pair"
            case "best_rest":
                return "the best makes a pair with each that is rated lower"
            case "all":
                return "every two with different ratings make a pair"
        return f"every two whose ratings differ by at least {self.gap or 0:g} make a pair"


def parse_pairing(text: str | None) -> Pairing | None:
    """ "best_worst", "best_rest", "all" or "gap:1.5"; None for no text.

    Raises:
        FormatError: none of these, or a gap that is not above 0.
    """
    if text is None or not text.strip():
        return None
    rule, _, gap = text.strip().partition(":")
    for name in RULES:
        if rule == name and name != "gap" and not gap:
            return Pairing(name)
    least = as_number(gap)
    if rule == "gap" and least is not None and least > 0:
        return Pairing("gap", least)
    message = (
        "must be best_worst, best_rest, all, or gap: and the least difference of the ratings, "
        "above 0 (gap:1.5)"
    )
    raise FormatError(f"`pairing` {message}.", [{"field": "pairing", "message": message}])


def pairs_of(ratings: Sequence[float], pairing: Pairing) -> list[tuple[int, int]]:
    """(preferred, dispreferred) positions, in the order of the responses; none where all tie.

    ratings: higher is better.
    """
    if not ratings:
        return []
    best, worst = ratings.index(max(ratings)), ratings.index(min(ratings))
    if pairing.rule == "best_worst":
        return [(best, worst)] if ratings[best] > ratings[worst] else []
    ours = [best] if pairing.rule == "best_rest" else range(len(ratings))
    return [
        (one, other)
        for one in ours
        for other in range(len(ratings))
        if _differ(ratings[one], ratings[other], pairing.gap)
    ]


def _differ(ours: float, theirs: float, gap: float | None) -> bool:
    if ours <= theirs or gap is None:
        return ours > theirs
    # As written: 4.1 and 3.1 differ by 1, in binary by less.
    return Fraction(str(ours)) - Fraction(str(theirs)) >= Fraction(str(gap))
