"""What the pairs of a dataset say together about which of their columns is the preferred one."""

from collections.abc import Iterator

from chesboard.doctor import checks, responses

MIN_PAIRS = 20
"""Fewer pairs say nothing about a dataset."""
LOPSIDED = 0.8
"""From this share on, a difference of lengths is worth a hint."""


class Tally:
    """Counts over a dataset's pairs."""

    def __init__(self) -> None:
        self.pairs = 0
        self.preferred_shorter = 0
        self.preferred_longer = 0
        self.refusals_preferred = 0
        self.answers_preferred = 0
        self.scored = 0
        self.scored_against = 0
        self.can_end = 0
        self.unfinished = 0

    def see(
        self,
        preferred: str,
        dispreferred: str,
        checked: checks.CheckedPair,
    ) -> None:
        self.pairs += 1
        self.preferred_shorter += len(preferred) < len(dispreferred)
        self.preferred_longer += len(preferred) > len(dispreferred)
        self.can_end += len(preferred) >= responses.MIN_ENDED
        self.can_end += len(dispreferred) >= responses.MIN_ENDED
        self.scored += bool(checked.scores)
        for kind, detail in checked.found:
            if kind == "no_end":
                self.unfinished += 2 if detail == checks.BOTH else 1
            elif kind == "scores_against":
                self.scored_against += 1
            elif detail == checks.PREFERS_REFUSAL:
                self.refusals_preferred += 1
            elif detail == checks.PREFERS_ANSWER:
                self.answers_preferred += 1

    def hints(self) -> list[str]:
        """Sentences on what may mean that the columns are swapped in the whole dataset."""
        return list(self._hints())

    def _hints(self) -> Iterator[str]:
        if self.scored >= MIN_PAIRS and 2 * self.scored_against > self.scored:
            yield (
                f"In {self.scored_against:,} of the {self.scored:,} pairs with scores, the "
                "preferred response has the lower one: the two responses are likely swapped "
                "throughout, or a lower score is the better one."
            )
        refusals = self.refusals_preferred + self.answers_preferred
        if refusals >= MIN_PAIRS:
            yield (
                f"In {refusals:,} pairs one response is a refusal and the other is not. The "
                f"refusal is preferred in {self.refusals_preferred:,} of them. Data that teaches "
                "harmlessness prefers most, data that teaches helpfulness few."
            )
        if self.pairs >= MIN_PAIRS and self.preferred_shorter >= LOPSIDED * self.pairs:
            share = self.preferred_shorter / self.pairs
            yield (
                f"The preferred response is the shorter one in {100 * share:.0f} % of the pairs. "
                "In most datasets it is the longer one more often: check that the responses are "
                "not swapped."
            )
        elif self.pairs >= MIN_PAIRS and self.preferred_longer >= LOPSIDED * self.pairs:
            share = self.preferred_longer / self.pairs
            yield (
                f"The preferred response is the longer one in {100 * share:.0f} % of the pairs: "
                "length alone tells the preferred response."
            )
