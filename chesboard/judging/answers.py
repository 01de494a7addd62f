"""What judges read, and the interface that they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chesboard.formats.text import sanitize
from chesboard.pairs import Prompt
from chesboard.records import JudgmentRecord
from chesboard.reporting import Control

REASON_CHARACTERS = 500
"""Longest reason that is kept of a judgment."""


class JudgeError(ValueError):
    """A judge that cannot be used; the message is for the user and says what to do."""


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """One sampled answer: `sample` counts the answers to the prompt of `pair`."""

    pair: int
    sample: int
    prompt: Prompt
    text: str

    @property
    def key(self) -> tuple[int, int]:
        return self.pair, self.sample

    def judged(
        self, verdict: bool | None, score: float | None = None, reason: str | None = None
    ) -> JudgmentRecord:
        """The record of a judgment on this answer. reason: may quote a judge's own words."""
        kept = None if reason is None else sanitize(reason[:REASON_CHARACTERS])
        return JudgmentRecord(self.pair, self.sample, verdict, score, kept)


OnJudged = Callable[[Sequence[JudgmentRecord]], None]
"""Receives judgments as they are had, from the thread that called the judge."""


class Judge(Protocol):
    """Looks for one thing in answers, such as refusal."""

    def judge(self, answers: Sequence[JudgedAnswer], control: Control, on_judged: OnJudged) -> None:
        """Judge every answer once and hand each judgment to `on_judged`, in any order.

        Raises:
            JudgeError: the judge as a whole cannot be used.
            What `control.check()` raises; judgments that were handed over stand.
        """


def plain_prompt(prompt: Prompt) -> str:
    """A prompt as one text; turns of a chat as paragraphs, with their roles where there are
    several."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0]["content"])
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
