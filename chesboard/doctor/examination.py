"""The examination of a whole dataset in one pass, and what holds for most of its pairs."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from chesboard.doctor import checks
from chesboard.doctor.checks import Found, check_pair
from chesboard.doctor.hints import Tally
from chesboard.doctor.relations import Related, Relations
from chesboard.issues import IssueKind
from chesboard.pairs import Prompt

MOST = 0.9
"""What this share of the responses or pairs has in common is a convention of the dataset."""
MIN_OF_CONVENTION = 20
"""Pairs or responses that make a convention."""


@dataclass(frozen=True, slots=True)
class Conventions:
    """What nearly all pairs of a dataset have in common, against which a few stand out.

    ends_sentences: responses end with punctuation. refusals: what is preferred where one response
    refuses, "refusal" or "answer"; None where it is sometimes the one, sometimes the other.
    """

    ends_sentences: bool = False
    refusals: str | None = None

    def confirms(self, found: Found) -> bool:
        """Whether an issue that a pair shows by itself holds against the rest of the dataset."""
        if found.kind == "no_end":
            return self.ends_sentences
        if found.detail == checks.PREFERS_REFUSAL:
            return self.refusals == "answer"
        if found.detail == checks.PREFERS_ANSWER:
            return self.refusals == "refusal"
        return True

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class IssueOfPair(NamedTuple):
    """other: the pair that it repeats or conflicts with."""

    kind: IssueKind
    pair: int
    other: int | None
    detail: str | None


class Examination:
    """Takes the pairs of a dataset one after the other; then tells their issues.

    Memory: some 24 bytes a pair and 12 bytes an issue, and the texts of different details.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self._relations = Relations()
        self._pairs: dict[IssueKind, array[int]] = {}
        self._details: dict[IssueKind, list[str]] = {}
        self._known_details: dict[str, str] = {}

    def see(
        self,
        prompt: Prompt,
        preferred: str,
        dispreferred: str,
        columns: Mapping[str, Any],
        hashes: tuple[int, int, int],
    ) -> None:
        """Take the next pair. hashes: of prompt, preferred and dispreferred response, 64 bits."""
        pair = self.tally.pairs
        checked = check_pair(prompt, preferred, dispreferred, columns)
        self.tally.see(preferred, dispreferred, checked)
        for kind, detail in checked.found:
            if kind not in self._pairs:
                self._pairs[kind], self._details[kind] = array("I"), []
            self._pairs[kind].append(pair)
            # One object for equal details.
            self._details[kind].append(self._known_details.setdefault(detail, detail))
        self._relations.see(hashes[0], (hashes[1], len(preferred)), (hashes[2], len(dispreferred)))

    def conventions(self) -> Conventions:
        tally = self.tally
        answers, refusals = tally.answers_preferred, tally.refusals_preferred
        return Conventions(
            ends_sentences=_is_most(tally.can_end - tally.unfinished, tally.can_end),
            refusals="answer"
            if _is_most(answers, answers + refusals)
            else "refusal"
            if _is_most(refusals, answers + refusals)
            else None,
        )

    def issues(self) -> Iterator[IssueOfPair]:
        """The issues of all pairs but those that the database finds (duplicates and such)."""
        conventions = self.conventions()
        for kind, pairs in self._pairs.items():
            for pair, detail in zip(pairs, self._details[kind], strict=True):
                if conventions.confirms(Found(kind, detail)):
                    yield IssueOfPair(kind, pair, None, detail)
        relations: tuple[tuple[IssueKind, Iterator[Related]], ...] = (
            ("repeated_prompt", self._relations.repeated_prompts()),
            ("conflicting_prompt", self._relations.circles()),
            ("reused_response", self._relations.reused_responses()),
        )
        for kind, found in relations:
            for pair, other in found:
                yield IssueOfPair(kind, pair, other, None)


def _is_most(some: int, of: int) -> bool:
    return of >= MIN_OF_CONVENTION and some >= MOST * of
