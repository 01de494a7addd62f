"""Texts that a row holds twice: turns of the prompt in dialogues, the prompt in responses."""

import re
from typing import NamedTuple

from chesboard.formats.dialogues import Messages, UnusableError, begins_word
from chesboard.formats.remarks import Kind
from chesboard.pairs import Message, Prompt

_WORD = re.compile(r"[^\W\u3040-\u9fff]+|[\u3040-\u9fff]")
MIN_WORDS = 3
MIN_CHARACTERS = 16
"""A prompt of fewer words and characters may begin an answer, too: "Hello" - "Hello! How are …"."""


class Joined(NamedTuple):
    """fit: they have turns in common, or the second begins where the first leaves off."""

    turns: Messages
    fit: bool


def join(first: Messages, then: Messages, field: str) -> Joined:
    """The turns of both, those that both have once; a system turn comes first.

    Raises:
        UnusableError: they have different system turns; `field` is the column named.
    """
    system, first = _apart(first)
    other, then = _apart(then)
    if system and other and not _same(system, other):
        raise UnusableError(field, "has another system turn than the row's other messages")
    joined = _joined(first, then)
    return Joined((system or other) + joined.turns, joined.fit)


def _apart(turns: Messages) -> tuple[Messages, Messages]:
    """(the system turn at the beginning, the others)."""
    at = 1 if turns and turns[0]["role"] == "system" else 0
    return turns[:at], turns[at:]


def _joined(first: Messages, then: Messages) -> Joined:
    if not first or not then:
        return Joined(first + then, fit=True)
    end = len(first)
    for at in range(len(then) - end + 1):
        if _same(first, then[at : at + end]):
            return Joined(then[:at] + _merged(first, then[at:]) + then[at + end :], fit=True)
    for count in range(min(len(first), len(then)), 0, -1):
        if _same(first[-count:], then[:count]):
            return Joined(first[:-count] + _merged(first[-count:], then) + then[count:], fit=True)
    return Joined(first + then, fit=first[-1]["role"] != then[0]["role"])


def _merged(ours: Messages, theirs: Messages) -> Messages:
    """Turns that are the same, each with the fields that either has."""
    return [{**our, **their} for our, their in zip(ours, theirs, strict=False)]


def _same(ours: Messages, theirs: Messages) -> bool:
    return len(ours) == len(theirs) and all(map(_is_same, ours, theirs))


def _is_same(ours: Message, theirs: Message) -> bool:
    """Whether two turns are one but for blanks around it and fields that only one of them has."""
    return ours["content"].strip() == theirs["content"].strip() and all(
        ours[name] == theirs[name] for name in ours.keys() & theirs.keys() - {"content"}
    )


class Asked(NamedTuple):
    """The prompt of two dialogues with a prompt of its own, and the responses to it."""

    turns: Messages
    preferred: str
    dispreferred: str
    fit: bool


def join_dialogues(prompt: Messages, before: Messages, ours: str, theirs: str, field: str) -> Asked:
    """The prompt and the turns that two dialogues share before their last, `ours` and `theirs`.

    Where the prompt ends with a beginning of the response (prefill) that both last turns repeat,
    they are its continuations.

    Raises:
        UnusableError: the system turns differ; `field` is the column named.
    """
    begun = prompt[-1:] if prompt and prompt[-1]["role"] == "assistant" else []
    if _same(before[: len(prompt)], prompt):
        begun = []  # a turn of the dialogues, too
    rests = [_rest(turn["content"], said) for turn in begun for said in (ours, theirs)]
    if rests and all(rest and rest.strip() for rest in rests):
        joined = join(prompt[:-1], before, field)
        return Asked(joined.turns + begun, str(rests[0]), str(rests[1]), joined.fit)
    if begun and _same(_apart(prompt[:-1])[1], _apart(before)[1]):
        joined = join(prompt[:-1], before, field)
        return Asked(joined.turns + begun, ours, theirs, fit=True)
    joined = join(prompt, before, field)
    return Asked(joined.turns, ours, theirs, joined.fit)


def without_answer(turns: Messages, *responses: str) -> Messages:
    """The turns without a last one that is one of the responses."""
    if len(turns) > 1 and turns[-1]["role"] == "assistant":
        said = turns[-1]["content"].strip()
        if said in [response.strip() for response in responses]:
            return turns[:-1]
    return turns


class Cut(NamedTuple):
    """Both responses, without what they repeated, and what is to be said of it."""

    preferred: str
    dispreferred: str
    kind: Kind | None


def without_prompt(prompt: Prompt, preferred: str, dispreferred: str) -> Cut:
    """Take the prompt, or its last turn, off the beginning of both responses.

    The blanks behind it go too: they separate the prompt from the answer, as a turn's end does.
    Where an answer is begun in the prompt, what is left begins as it stood. Nothing is taken off
    unless both begin with all of it and something is left in each.
    """
    said, is_begun = _last_said(prompt)
    if not said.strip():
        return Cut(preferred, dispreferred, None)
    rests = [_rest(said, response) for response in (preferred, dispreferred)]
    is_long = is_begun or _is_telling(said)
    kind: Kind | None = None
    match rests:
        case [None, None]:
            kind = "prompt_perhaps_repeated" if _share_part(said, preferred, dispreferred) else None
        case [str() as ours, str() as theirs] if is_long and _begin_anew(said, ours, theirs):
            if not is_begun:
                ours, theirs = ours.lstrip(), theirs.lstrip()
            return Cut(ours, theirs, "prompt_repeated")
        case [str(), str()]:
            kind = "prompt_perhaps_repeated"
        case _ if is_long:
            kind = "prompt_repeated_once"
    return Cut(preferred, dispreferred, kind)


def _begin_anew(said: str, *rests: str) -> bool:
    """Whether something is left of each response, and does not go on with the repeated sentence:
    "Where is it" - "Where is it? There."."""
    return all(rest.strip() and (rest[0].isspace() or not said[-1].isalnum()) for rest in rests)


def _is_telling(text: str) -> bool:
    """Whether a text is so long that no response begins with it by chance."""
    return len(text.strip()) >= MIN_CHARACTERS or len(_WORD.findall(text)) >= MIN_WORDS


def _share_part(prompt: str, *responses: str) -> bool:
    """Whether all responses begin with the first or the last paragraph or line of the prompt; a
    short last line tells only where it asks to go on: "Answer:"."""
    paragraphs, lines = _paragraphs(prompt), prompt.strip().splitlines()
    parts = [
        part for parts in (paragraphs, lines) if len(parts) > 1 for part in parts[:: len(parts) - 1]
    ]
    return any(
        (_is_telling(part) or (part is lines[-1] and part.endswith(":")))
        and all(_rest(part, response) is not None for response in responses)
        for part in parts
    )


def say_the_same(text: str, other: str) -> bool:
    """Whether two texts are the same but for blanks, or one is the other's first or last paragraph:
    an instruction whose input stands in a column of its own."""
    text, other = text.strip(), other.strip()
    return text == other or any(
        _is_telling(part) and part in (_paragraphs(whole)[0], _paragraphs(whole)[-1])
        for part, whole in ((text, other), (other, text))
    )


def _paragraphs(text: str) -> list[str]:
    return text.strip().split("\n\n")


def _last_said(prompt: Prompt) -> tuple[str, bool]:
    """(the text that responses could repeat, whether it is the beginning of the response)."""
    if isinstance(prompt, str):
        return prompt, False
    last = prompt[-1] if prompt else {"role": "", "content": ""}
    if last["role"] not in ("user", "assistant"):
        return "", False
    return last["content"], last["role"] == "assistant"


def _rest(said: str, response: str) -> str | None:
    """What follows the repeated text; None where the response does not begin with it."""
    if response.startswith(said):
        at = len(said)
    else:
        said = said.strip()
        at = len(response) - len(response.lstrip()) + len(said)
        if not said or not response.lstrip().startswith(said):
            return None
    return response[at:] if _is_boundary(response, at) else None


def _is_boundary(text: str, at: int) -> bool:
    """Whether no word goes on at `at`. A sign before a blank ends one: "tea, too", not "3.5"."""
    if at == len(text) or text[at - 1].isspace() or begins_word(text, at):
        return True
    return not text[at].isalnum() and text[at + 1 : at + 2].strip() == ""
