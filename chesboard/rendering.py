"""The chat template of a run: tokenizer, template, arguments and date as one object; and what a
template writes around the texts of turns.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from chesboard.configs import ModelConfig
from chesboard.pairs import Prompt
from chesboard.template_syntax import bind_arguments, check_template, literal, unread_arguments

Turn = Mapping[str, Any]

Bounds = Callable[[Callable[[], str]], str]
"""Runs a template, which comes with a model and may be anything, and returns what it renders."""
_bounds: ContextVar[Bounds | None] = ContextVar("bounds of templates", default=None)

_TOLD_DATE = re.compile(
    r"""strftime_now\(\s*(?:format\s*=\s*)?(?P<quote>["'])(?P<format>[^"']*)(?P=quote)\s*\)"""
)


class RunTemplate:
    """How a run renders its prompts: by which template, with which arguments, on which date.

    The run's tokenizer is a copy whose template holds all of these, so that whatever renders by it
    renders alike, in every attempt at the run.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        date: datetime | None = None,
    ) -> None:
        """template: Jinja text in place of the tokenizer's own. date: what `strftime_now` tells;
        default: now.

        Raises:
            ValueError: no Jinja template, be it given or the tokenizer's own, or the tokenizer has
                several and none by default.
        """
        if template is not None:
            try:
                check_template(template)
            except ValueError as error:
                raise ValueError(f"chat_template: {error}") from None
        self._original = tokenizer
        self._given = template
        self._template = template if template is not None else _own_template(tokenizer)
        if template is None and self._template is not None:
            _refuse_faulty(self._template)
        self._arguments = arguments or {}
        self._date = date or datetime.now().astimezone()

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the run."""
        return self._tokenizer_on(self._date)

    @property
    def saved_tokenizer(self) -> Any:
        """The tokenizer to save with a model that was trained so: the run's template with its
        arguments as defaults. The date is not frozen in it."""
        if self._template is None or not (self._given or self._arguments):
            return self._original
        text = bind_arguments(self._template, self._arguments, as_defaults=True)
        return _with_template(self._original, text)

    def messages(self) -> Iterator[str]:
        """What the user should know of the template before anything is computed."""
        if self._template is None:
            yield (
                "The model has no chat template: prompts are read as plain text, and turns as "
                "paragraphs with a role each."
                + (" So chat_template_kwargs have no effect." if self._arguments else "")
            )
            return
        if self._given is not None:
            yield "Prompts are rendered by the given chat_template, not by the model's own."
        if unread := unread_arguments(self._template, self._arguments):
            names = ", ".join(f"`{name}`" for name in unread)
            yield f"The chat template does not read {names} of chat_template_kwargs."
        if self._tells_the_date():
            yield (
                f"The chat template tells the date: it is {self._date:%d %B %Y} in every prompt of "
                "this run, also when it resumes. The model may compute otherwise on another day."
            )
        if _TOLD_DATE.sub("", self._template).count("strftime_now("):
            yield (
                "The chat template tells the time in a form that cannot be frozen: prompts differ "
                "from one attempt at the run to the next."
            )

    def _tokenizer_on(self, date: datetime) -> Any:
        if self._template is None:
            return self._original
        text = _freeze(bind_arguments(self._template, self._arguments, as_defaults=False), date)
        if text == self._original.chat_template:
            return self._original
        return _with_template(self._original, text)

    def _tells_the_date(self) -> bool:
        other_day = self._tokenizer_on(self._date + timedelta(days=400))
        return any(
            try_render(self.tokenizer, turns, header=True)
            != try_render(other_day, turns, header=True)
            for turns in ([user("a")], [system("b"), user("a")])
        )


def run_template(tokenizer: Any, config: ModelConfig, date: datetime | None = None) -> RunTemplate:
    """The template that a configuration names, of a model with this tokenizer.

    Raises:
        ValueError: see `RunTemplate`.
    """
    return RunTemplate(tokenizer, config.chat_template, config.chat_template_kwargs, date)


def _own_template(tokenizer: Any) -> str | None:
    """The tokenizer's template; of several, the one by default."""
    own = tokenizer.chat_template
    if not isinstance(own, dict):
        return own or None
    if "default" not in own:
        raise ValueError(
            f"The model has several chat templates ({', '.join(sorted(own))}) and none by default. "
            "Give the one to use as chat_template."
        )
    return str(own["default"])


def _refuse_faulty(own: str) -> None:
    try:
        check_template(own)
    except ValueError as error:
        raise ValueError(
            f"The model's own chat template cannot be used: {error}. Copy it from where the model "
            "comes from, or give another one as chat_template."
        ) from None


def _with_template(tokenizer: Any, text: str) -> Any:
    bound = copy(tokenizer)
    bound.chat_template = text
    return bound


def _freeze(template: str, date: datetime) -> str:
    """The template with the given date in place of the clock's."""
    return _TOLD_DATE.sub(lambda call: literal(date.strftime(call["format"])), template)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}


def as_messages(prompt: Prompt) -> list[Any]:
    """The turns of a prompt; plain text is one turn of the user."""
    return [user(prompt)] if isinstance(prompt, str) else list(prompt)


def render(tokenizer: Any, turns: Sequence[Turn], *, header: bool) -> str:
    """Messages by the tokenizer's chat template. header: with its generation prompt.

    Raises what the template raises.
    """
    return apply_template(tokenizer, turns, add_generation_prompt=header)


def apply_template(tokenizer: Any, turns: Sequence[Turn], **options: bool) -> str:
    """All that templates are run by, with the options of transformers' apply_chat_template."""

    def run() -> str:
        rendered: str = tokenizer.apply_chat_template(list(turns), tokenize=False, **options)
        return rendered

    bounds = _bounds.get()
    return run() if bounds is None else bounds(run)


@contextmanager
def bounded_by(bounds: Bounds) -> Iterator[None]:
    """Every template that is run meanwhile, in this thread, is run by `bounds`."""
    before = _bounds.set(bounds)
    try:
        yield
    finally:
        _bounds.reset(before)


def try_render(tokenizer: Any, turns: Sequence[Turn], *, header: bool = False) -> str | None:
    """None where the template refuses the turns."""
    try:
        return render(tokenizer, turns, header=header)
    except Exception:
        return None


def is_begun_answer(prompt: Prompt) -> bool:
    """Whether a prompt ends within a turn of the assistant, which the response continues."""
    if isinstance(prompt, str) or not prompt:
        return False
    last: Turn = prompt[-1]
    return last["role"] == "assistant" and bool(last.get("content")) and not last.get("tool_calls")


@dataclass(frozen=True, slots=True)
class Marks:
    """What a chat template writes around the texts of turns, seen on a made-up dialogue.

    bos: "" where it writes none. header: the generation prompt, as `Renderer` puts it before every
    response. header_is_derived: the template writes none on request; it was taken from a rendered
    answer. user_end, answer_end: what follows the text of a turn, up to the next header.
    user_opening: what stands before the text of the user's turn. default_system: the system turn
    that it writes where the dialogue has none. openings: how a rendered dialogue can begin, behind
    BOS; without blanks around.
    """

    bos: str = ""
    header: str = ""
    header_is_derived: bool = False
    user_end: str = ""
    answer_end: str = ""
    user_opening: str = ""
    default_system: str = ""
    openings: tuple[str, ...] = ()

    @property
    def hides_roles(self) -> bool:
        """Whether nothing tells an answer from a question."""
        return not self.header and self.user_end == self.answer_end


_Q, _A, _MORE, _S = "chesboard", "checkmate", "endgame", "stalemate"


def find_marks(tokenizer: Any) -> Marks:
    """Marks of a tokenizer's chat template. Empty where it refuses a question and its answer."""
    asked = try_render(tokenizer, [user(_Q)])
    with_header = try_render(tokenizer, [user(_Q)], header=True)
    answered = try_render(tokenizer, [user(_Q), assistant(_A)])
    if asked is None or with_header is None or answered is None or _Q not in asked:
        return Marks()
    bos = tokenizer.bos_token or ""
    bos = bos if asked.startswith(bos) else ""
    header = with_header.removeprefix(asked) if with_header.startswith(asked) else ""
    derived = "" if with_header != asked else _header_of_answers(tokenizer, asked, answered)
    answer_end = answered.rpartition(_A)[2]
    lead = asked.removeprefix(bos).partition(_Q)[0]
    opening = _opening_of_later_turns(tokenizer, bos, answer_end) or lead
    return Marks(
        bos=bos,
        header=header or derived,
        header_is_derived=bool(derived),
        user_end=asked.rpartition(_Q)[2],
        answer_end=answer_end,
        user_opening=opening,
        default_system=lead.removesuffix(opening) if lead.endswith(opening) else "",
        openings=_openings(lead, opening, _opening_of_system(tokenizer, bos)),
    )


def _header_of_answers(tokenizer: Any, asked: str, answered: str) -> str:
    """What stands between a question and every answer; "" where that is not certain."""
    other = try_render(tokenizer, [user(_Q), assistant(_MORE)])
    if other is None or not (answered.startswith(asked) and other.startswith(asked)):
        return ""
    headers = {
        answered.removeprefix(asked).partition(_A)[0],
        other.removeprefix(asked).partition(_MORE)[0],
    }
    header = headers.pop()
    return header if not headers and header.strip() else ""


def _opening_of_later_turns(tokenizer: Any, bos: str, answer_end: str) -> str:
    """What stands between an answer and the user's next turn."""
    longer = try_render(tokenizer, [user(_Q), assistant(_A), user(_MORE)])
    if longer is None or not longer.count(_A) == longer.count(_MORE) == 1:
        return ""
    between = longer.partition(_A)[2].partition(_MORE)[0]
    return between.removeprefix(answer_end).removeprefix(bos)


def _opening_of_system(tokenizer: Any, bos: str) -> str:
    rendered = try_render(tokenizer, [system(_S), user(_Q)])
    if rendered is None or _S not in rendered:
        return ""
    # Templates write a date or the like in further lines behind the mark of the turn.
    return rendered.removeprefix(bos).partition(_S)[0].lstrip().partition("\n")[0]


def _openings(*found: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.strip() for text in found if text.strip()))


def find_end_of_turn(tokenizer: Any) -> int:
    """The token that ends a response.

    With a chat template: the first special token that it writes after an assistant's message.
    Otherwise, and where it writes none: EOS.

    Raises:
        ValueError: the tokenizer has neither.
    """
    if tokenizer.chat_template:
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        after = _text_after_answer(tokenizer)
        for token_id in tokenizer(after, add_special_tokens=False)["input_ids"] if after else []:
            if token_id in special:
                return int(token_id)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "The tokenizer has neither an end-of-turn token in its chat template nor an EOS token."
        )
    return int(tokenizer.eos_token_id)


def _text_after_answer(tokenizer: Any) -> str:
    dialogue = [user(_Q), assistant(_A)]
    for turns in (dialogue, [system(_S), *dialogue]):
        rendered = try_render(tokenizer, turns)
        if rendered is not None:
            return rendered.rpartition(_A)[2]
    return ""
