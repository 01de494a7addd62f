"""Questions to a judge that is a language model, and the verdicts in its replies."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from chesboard.judging.answers import JudgedAnswer, plain_prompt

_PLACEHOLDER = re.compile(r"\{(prompt|answer)\}")
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"^```(?:json)?\s*(\{.*\})\s*```$", re.DOTALL)
_FIRST_WORD = re.compile(r"[\s\W_]*(yes|no)\b(?P<rest>.*)", re.DOTALL | re.IGNORECASE)
# One run of signs before each word: two that meet would be tried in every division of a long one.
_BOTH = re.compile(r"[\s\W_]*(?:(?:and/or|and|or)[\s\W_]*)?(?:yes|no)\b(?!\s+\w)", re.IGNORECASE)
_WORDS = {"yes": True, "true": True, "no": False, "false": False}
SHOWN_REPLY = 200
"""Characters of a reply that the reason quotes where no verdict is in it."""


@dataclass(frozen=True, slots=True)
class Reply:
    verdict: bool | None
    score: float | None = None
    reason: str | None = None


def ask(question: str, answer: JudgedAnswer) -> str:
    """The question about an answer: {prompt} and {answer} replaced, each once and as they are, so
    that an answer which itself says "{prompt}" is not filled in."""
    parts = {"prompt": plain_prompt(answer.prompt), "answer": answer.text}
    return _PLACEHOLDER.sub(lambda found: parts[found[1]], question)


def read_reply(text: str) -> Reply:
    """The verdict of a reply: a JSON object with `verdict` (true, false, "yes" or "no"; and if it
    has them `score` and `reason`), or a text whose first word is yes or no.

    Nothing is guessed: of any other reply the verdict is None, and the reason quotes it.
    """
    said = _THOUGHT.sub("", text).strip()
    if not said:
        return Reply(None, reason="The judge's reply is empty.")
    fenced = _FENCED.match(said)
    if fenced or said.startswith("{"):
        return _read_json(fenced[1] if fenced else said)
    found = _FIRST_WORD.match(said)
    if found is None or _BOTH.match(found["rest"]):
        return Reply(None, reason=f"The judge's reply says neither yes nor no: {_quoted(said)}")
    rest = found["rest"].lstrip(" \t\r\n.,:;–—-*_”\"'").rstrip()
    return Reply(_WORDS[found[1].lower()], reason=rest or None)


def _read_json(text: str) -> Reply:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return Reply(None, reason=f"The judge's reply is no valid JSON: {_quoted(text)}")
    said = found.get("verdict")
    verdict = _WORDS.get(said.strip().lower()) if isinstance(said, str) else said
    if not isinstance(verdict, bool):
        return Reply(
            None, reason=f"The judge's reply has no `verdict` that is yes or no: {_quoted(text)}"
        )
    reason = found.get("reason")
    return Reply(
        verdict,
        _number(found.get("score")),
        reason if isinstance(reason, str) and reason else None,
    )


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def _quoted(text: str) -> str:
    short = " ".join(text.split())
    return f"“{short[:SHOWN_REPLY]}{'…' if len(short) > SHOWN_REPLY else ''}”"
