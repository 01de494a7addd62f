"""A pair's texts as the model is to read them: rendered, and mended where that is certain.

Nothing stands twice: a prompt that the model's template rendered already is used as it is, an
answer begun in the prompt goes on, and an end token or a `<think>` in a response that the template
writes, too, is taken off the response. What is uncertain stays as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chesboard.findings import FindingKind
from chesboard.pairs import Pair, Prompt
from chesboard.rendering import (
    Marks,
    Turn,
    apply_template,
    as_messages,
    assistant,
    find_end_of_turn,
    find_marks,
    is_begun_answer,
    render,
    try_render,
)

THINK, END_THINK = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """mended: kinds of what was mended. turns: the messages that the template rendered; None where
    it rendered none."""

    text: str
    mended: tuple[FindingKind, ...] = ()
    turns: Sequence[Turn] | None = None

    @property
    def opens_think(self) -> bool:
        return self.text.rstrip().endswith(THINK)


@dataclass(frozen=True, slots=True)
class MendedResponse:
    """text: without what the template writes, too. start: its first character in the original.
    whole: the same with the `<think>` that the prompt opened."""

    text: str
    start: int
    whole: str


@dataclass(frozen=True, slots=True)
class ReadPair:
    """A pair's texts as they are tokenized. mended: kinds of what was mended."""

    prompt: RenderedPrompt
    preferred: MendedResponse
    dispreferred: MendedResponse
    mended: tuple[FindingKind, ...]

    @property
    def responses(self) -> tuple[MendedResponse, MendedResponse]:
        return self.preferred, self.dispreferred


class Renderer:
    """Renders prompts by a tokenizer's chat template, or as they are where it has none."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises:
        ValueError: the tokenizer has no token that ends a response.
        """
        self._tokenizer = tokenizer
        self._has_template = bool(tokenizer.chat_template)
        self.end_id = find_end_of_turn(tokenizer)
        self.end_token: str = tokenizer.convert_ids_to_tokens(self.end_id)
        self.marks = find_marks(tokenizer) if self._has_template else Marks()

    def read(self, pair: Pair) -> ReadPair:
        """Raises what the chat template raises."""
        prompt = self.prompt(pair.prompt)
        mended = dict.fromkeys(prompt.mended)
        preferred, dispreferred = (
            self._response(text, prompt, mended) for text in (pair.preferred, pair.dispreferred)
        )
        return ReadPair(prompt, preferred, dispreferred, tuple(mended))

    def prompt(self, prompt: Prompt) -> RenderedPrompt:
        """The prompt with its generation prompt. Raises what the chat template raises."""
        if not self._has_template:
            return _plain(prompt)
        turns = as_messages(prompt)
        if len(turns) == 1 and turns[0]["role"] == "user":
            rendered = self._rendered_before(turns[0]["content"])
            if rendered is not None:
                return rendered
        if is_begun_answer(prompt):
            text = self._continued(turns)
            return RenderedPrompt(text, ("prefill_continued",), turns)
        text = render(self._tokenizer, turns, header=True)
        return RenderedPrompt(text + self.marks.header * self.marks.header_is_derived, (), turns)

    def answered(self, prompt: RenderedPrompt, response: MendedResponse) -> str | None:
        """The dialogue with the response as the template renders it; None where it rendered no
        messages, or refuses the response."""
        if prompt.turns is None:
            return None
        if "prefill_continued" not in prompt.mended:
            return try_render(self._tokenizer, [*prompt.turns, assistant(response.whole)])
        last = prompt.turns[-1]
        whole = {**last, "content": last["content"] + response.whole}
        return try_render(self._tokenizer, [*prompt.turns[:-1], whole])

    def _continued(self, turns: Sequence[Turn]) -> str:
        text = apply_template(self._tokenizer, turns, continue_final_message=True)
        # Templates strip texts, and the response goes on behind the last blank.
        begun: str = turns[-1]["content"]
        blanks = begun[len(begun.rstrip()) :]
        return text if text.endswith(begun) else text.rstrip() + blanks

    def _rendered_before(self, text: str) -> RenderedPrompt | None:
        """The text itself where it is a prompt that this template rendered before, completed by
        BOS, default system turn and generation prompt where it lacks them; None where that is not
        certain."""
        marks = self.marks
        body = text.removeprefix(marks.bos) if marks.bos else text
        if not any(body.lstrip().startswith(opening) for opening in marks.openings):
            return None
        if marks.default_system and body.startswith(marks.user_opening):
            body = marks.default_system + body
        completed = self._with_header(body)
        if completed is not None:
            return RenderedPrompt(marks.bos + completed, ("rendered_prompt",))
        if self._has_begun_answer(body):
            return RenderedPrompt(marks.bos + body, ("rendered_prompt", "prefill_continued"))
        return None

    def _with_header(self, body: str) -> str | None:
        """Up to the end of the generation prompt; None where the text does not end with a turn of
        the user, followed by the generation prompt or a part of it."""
        tail = (self.marks.user_end + self.marks.header).lstrip()
        turn_end, kept = self.marks.user_end.strip(), body.rstrip()
        if not turn_end:
            turn_end = self.marks.header.strip()  # only the header tells where the turn ends
        at = kept.rfind(turn_end) if turn_end else -1
        if at < 0 or not tail.startswith(kept[at:]):
            return None
        header = self.marks.header.strip()
        if not (header and kept.endswith(header)) and not self._ends_with_question(kept, turn_end):
            return None
        completed = kept[:at] + tail
        return body if body.startswith(completed) else completed

    def _ends_with_question(self, text: str, turn_end: str) -> bool:
        """Whether the last turn is the user's: an answer follows no answer."""
        opening = self.marks.user_opening.strip()
        _, found, last_turn = text.rpartition(opening) if opening else ("", "", "")
        return bool(found) and last_turn.count(turn_end) == 1

    def _has_begun_answer(self, body: str) -> bool:
        header = self.marks.header.strip()
        before, found, begun = body.rpartition(header) if header else ("", "", "")
        closing = {self.marks.user_end.strip(), self.marks.answer_end.strip(), self.end_token}
        return (
            bool(found)
            and before.rstrip().endswith(self.marks.user_end.strip())
            and not any(mark in begun for mark in (*closing, *self.marks.openings) if mark)
        )

    def _response(
        self, text: str, prompt: RenderedPrompt, mended: dict[FindingKind, None]
    ) -> MendedResponse:
        whole = self._without_end(text)
        if whole != text:
            mended["end_token_removed"] = None
        rest = _without_think(whole, prompt) if prompt.opens_think else whole
        if rest != whole:
            mended["think_removed"] = None
        return MendedResponse(rest, len(whole) - len(rest), whole)

    def _without_end(self, text: str) -> str:
        kept = text.rstrip()
        if not kept.endswith(self.end_token):
            return text
        before, _, _ = self.marks.answer_end.partition(self.end_token)
        text_alone = kept.removesuffix(self.end_token)
        if before.isspace():
            text_alone = text_alone.removesuffix(before)
        return text_alone if text_alone.strip() else text


def _plain(prompt: Prompt) -> RenderedPrompt:
    """Without a template: text as it is, several messages as paragraphs with a role each."""
    if isinstance(prompt, str):
        return RenderedPrompt(prompt)
    mended: tuple[FindingKind, ...] = ("prefill_continued",) if is_begun_answer(prompt) else ()
    if len(prompt) == 1:
        return RenderedPrompt(prompt[0]["content"], mended)
    turns = [f"{turn['role'].capitalize()}: {turn['content']}" for turn in prompt]
    header = [] if mended else ["Assistant:"]
    return RenderedPrompt("\n\n".join([*turns, *header]), mended)


def _without_think(response: str, prompt: RenderedPrompt) -> str:
    """The response without the `<think>` that the prompt ends with."""
    begun = response.lstrip()
    if not begun.startswith(THINK):
        return response
    blanks = prompt.text[len(prompt.text.rstrip()) :]
    rest = begun.removeprefix(THINK)
    rest = rest.removeprefix(blanks) if blanks else rest
    return rest if rest.strip() else response
