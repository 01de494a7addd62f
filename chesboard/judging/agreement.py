"""How far two judges agree on the same answers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

AnswerKey = tuple[int, int]
"""Pair and sample of an answer."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of two judges' verdicts on the answers that both gave one.

    both_positive … both_negative: answers by verdict of the first and of the second judge.
    unjudged: answers of both that at least one of them gave no verdict on.
    """

    both_positive: int
    first_only: int
    second_only: int
    both_negative: int
    unjudged: int

    @property
    def compared(self) -> int:
        return self.both_positive + self.first_only + self.second_only + self.both_negative

    @property
    def raw(self) -> float | None:
        """Share of answers with the same verdict; None: none was compared."""
        return (self.both_positive + self.both_negative) / self.compared if self.compared else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960): agreement beyond what the judges' own rates give by chance.

        1: full agreement; 0: no more than by chance. None where it is not defined: nothing was
        compared, or both judges give all answers the same one verdict.
        """
        if self.raw is None:
            return None
        first = (self.both_positive + self.first_only) / self.compared
        second = (self.both_positive + self.second_only) / self.compared
        by_chance = first * second + (1 - first) * (1 - second)
        return None if by_chance == 1 else (self.raw - by_chance) / (1 - by_chance)


def agreement(
    first: Mapping[AnswerKey, bool | None], second: Mapping[AnswerKey, bool | None]
) -> Agreement:
    """Compare the verdicts of two judges, by answer. Answers of one judge alone do not count."""
    counts = Counter((first[key], second[key]) for key in first.keys() & second.keys())
    return Agreement(
        both_positive=counts[True, True],
        first_only=counts[True, False],
        second_only=counts[False, True],
        both_negative=counts[False, False],
        unjudged=sum(count for verdicts, count in counts.items() if None in verdicts),
    )
