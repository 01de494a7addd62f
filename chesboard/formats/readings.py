"""Reads a prompt and two responses as a pair: texts, dialogues in one text, or chat messages."""

from typing import NamedTuple

from chesboard.formats.columns import Columns
from chesboard.formats.dialogues import Messages, UnusableError, common_words, cut
from chesboard.formats.remarks import Remark
from chesboard.formats.repeats import join_dialogues, say_the_same, without_answer, without_prompt
from chesboard.formats.transcripts import (
    has_turns,
    is_certain,
    is_dialogue,
    looks_like_transcript,
    read_dialogue,
    read_transcript,
)
from chesboard.pairs import Prompt
from chesboard.template_marks import find_mark


class Reading(NamedTuple):
    """The form and the texts of a pair, and what reading them mended or left open."""

    form: str
    prompt: Prompt
    preferred: str
    dispreferred: str
    remarks: tuple[Remark, ...] = ()

    def noting(self, *remarks: Remark) -> "Reading":
        return self._replace(remarks=(*self.remarks, *remarks))


def from_texts(
    prompt: str | Messages | None, preferred: str, dispreferred: str, columns: Columns
) -> Reading:
    if prompt is None:
        return _without_prompt_column(preferred, dispreferred, columns)
    if columns.persona:
        if not isinstance(prompt, str):
            raise UnusableError(columns.prompt, "must be text")
        # The answers of this data begin with a space, which chat templates supply themselves.
        pair = Reading("persona", prompt, preferred.strip(), dispreferred.strip())
        return _from_transcript(pair, prompt)
    dialogues = _dialogues(prompt, preferred, dispreferred)
    if dialogues is not None:
        pair = from_messages(prompt, *dialogues, columns)
        return pair if columns.form else pair._replace(form="hh-rlhf")
    if isinstance(prompt, str):
        return _from_transcript(
            Reading(columns.form or "text", prompt, preferred, dispreferred), prompt
        )
    pair = Reading(columns.form or "chat", prompt, preferred, dispreferred)
    asked = without_answer(prompt, preferred, dispreferred)
    if asked is prompt:
        return pair
    return pair._replace(prompt=asked).noting(Remark("answer_in_prompt"))


def _without_prompt_column(preferred: str, dispreferred: str, columns: Columns) -> Reading:
    if columns.persona or columns.verdicts():
        raise UnusableError(columns.prompt, "is missing", "missing")
    if is_dialogue(preferred):
        fields = columns.preferred, columns.dispreferred
        parted = cut(read_dialogue(preferred), read_dialogue(dispreferred), fields)
        return Reading("hh-rlhf", *parted)
    dialogues = _both_transcripts(preferred, dispreferred)
    if dialogues is not None:
        parted = cut(*dialogues, (columns.preferred, columns.dispreferred))
        return Reading("hh-rlhf", *parted).noting(Remark("transcript_read"))
    return _from_common_words(preferred, dispreferred, columns)


def _dialogues(
    prompt: str | Messages, preferred: str, dispreferred: str
) -> tuple[Messages, Messages] | None:
    """Both responses as turns, where both are dialogues in one text that hold the prompt."""
    dialogues = _both_transcripts(preferred, dispreferred)
    return dialogues if dialogues and _holds_prompt(dialogues[0], prompt) else None


def _both_transcripts(preferred: str, dispreferred: str) -> tuple[Messages, Messages] | None:
    """The turns of two dialogues in one text that differ in the last turn, the assistant's."""
    first = read_transcript(preferred)
    second = read_transcript(dispreferred) if first else None
    if first is None or second is None or first.is_open or second.is_open:
        return None
    ours, theirs = first.turns, second.turns
    is_answered = ours[-1]["role"] == "assistant" and ours[:-1] == theirs[:-1]
    return (ours, theirs) if is_answered else None


def _holds_prompt(turns: Messages, prompt: str | Messages) -> bool:
    """Whether one of the turns before the last is one of the prompt's."""
    asked = read_transcript(prompt) if isinstance(prompt, str) else None
    said = asked.turns if asked else prompt
    texts = [said] if isinstance(said, str) else [turn["content"] for turn in said]
    return any(say_the_same(turn["content"], text) for turn in turns[:-1] for text in texts)


def _from_transcript(pair: Reading, prompt: str) -> Reading:
    """The pair with a prompt that is a dialogue in one text as turns."""
    if find_mark(prompt) is not None:
        return pair  # rendered by a template: what its turns are depends on the model
    transcript = read_transcript(prompt)
    if transcript is None or not is_certain(transcript, prompt):
        unread = [Remark("transcript_unread")] if looks_like_transcript(prompt) else []
        return pair.noting(*unread)
    parted = without_prompt(prompt, pair.preferred, pair.dispreferred)
    if parted.kind == "prompt_repeated":
        pair = pair.noting(Remark("prompt_repeated"))
        pair = pair._replace(preferred=parted.preferred, dispreferred=parted.dispreferred)
    responses = pair.preferred, pair.dispreferred
    if transcript.is_open and not prompt[-1].isspace():
        responses = _without_blank(pair.preferred), _without_blank(pair.dispreferred)
    further = [Remark("further_turns")] if any(map(has_turns, responses)) else []
    form = "chat" if pair.form == "text" else pair.form
    pair = pair._replace(form=form, prompt=transcript.turns)
    pair = pair._replace(preferred=responses[0], dispreferred=responses[1])
    return pair.noting(Remark("transcript_read"), *further)


def _without_blank(response: str) -> str:
    """The response without the one blank that separates it from "Assistant:"."""
    return response[1:] if response[:1] in (" ", "\n") else response


def _from_common_words(preferred: str, dispreferred: str, columns: Columns) -> Reading:
    at = common_words(preferred, dispreferred)
    if not preferred[:at].strip():
        raise UnusableError(
            columns.prompt,
            f"is missing, and {columns.preferred} is no dialogue that holds the prompt, nor do "
            "both responses begin with the same words",
            "missing",
        )
    return Reading("implicit", preferred[:at], preferred[at:], dispreferred[at:])


def from_messages(
    prompt: str | Messages | None, preferred: Messages, dispreferred: Messages, columns: Columns
) -> Reading:
    before, ours, theirs = cut(preferred, dispreferred, (columns.preferred, columns.dispreferred))
    form = columns.form or ("ultrafeedback" if columns.has_scores else "chat")
    if prompt is None:
        return Reading(form, before, ours, theirs)
    if isinstance(prompt, str):
        pair = _from_transcript(Reading(form, prompt, ours, theirs), prompt)
        if isinstance(pair.prompt, str):
            # Many files repeat the first or the last question in a column of its own.
            return pair._replace(prompt=before or [{"role": "user", "content": prompt}])
        ours, theirs = pair.preferred, pair.dispreferred
    else:
        pair = Reading(form, without_answer(prompt, ours, theirs), ours, theirs)
        if pair.prompt is not prompt:
            pair = pair.noting(Remark("answer_in_prompt"))
    assert isinstance(pair.prompt, list)
    asked = join_dialogues(pair.prompt, before, ours, theirs, columns.prompt)
    pair = pair._replace(
        prompt=asked.turns, preferred=asked.preferred, dispreferred=asked.dispreferred
    )
    return pair if asked.fit else pair.noting(Remark("two_prompts"))


def without_repeats(pair: Reading, *, is_asked_apart: bool) -> Reading:
    """The pair without a prompt that both responses repeat.

    is_asked_apart: prompt and responses are columns of their own. In whole dialogues an answer of
    two that takes up the question is no matter of how the file is written.
    """
    if pair.form in ("implicit", "persona"):
        return pair
    responses = pair.preferred, pair.dispreferred
    parted = without_prompt(pair.prompt, *responses)
    if parted.kind is None and is_asked_apart:
        read = filter(None, map(read_transcript, responses))
        if any(_holds_prompt(transcript.turns, pair.prompt) for transcript in read):
            return pair.noting(Remark("prompt_repeated_once"))
    if parted.kind is None or (parted.kind == "prompt_repeated_once" and not is_asked_apart):
        return pair
    pair = pair._replace(preferred=parted.preferred, dispreferred=parted.dispreferred)
    return pair.noting(Remark(parted.kind))
