"""From a row's columns to a pair: which column holds what, and how dialogues are cut.

    columns                          form
    prompt, chosen, rejected         text: three texts
                                     chat: the prompt, or the responses, are chat messages
    chosen, rejected                 chat: both are whole dialogues of chat messages
                                     hh-rlhf: both are whole dialogues in one text
                                     ("\\n\\nHuman: …\\n\\nAssistant: …")
    question, answer_matching_behavior, answer_not_matching_behavior
                                     persona: the matching answer is preferred

`preferred` and `dispreferred` may stand for `chosen` and `rejected`. In two whole dialogues the
common messages are the prompt and the last message of each, the assistant's, is the response.
A mapping names the columns where they are called something else.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.datasets.rows import PairRow, Prompt, RowError, SourceRow

Messages = list[dict[str, str]]

FORMS_IN_WORDS = {
    "text": "a prompt and two responses as plain text",
    "chat": "chat messages",
    "hh-rlhf": "whole dialogues in one text (HH-RLHF)",
    "persona": "a question with a matching and a not matching answer (persona)",
}
KNOWN = (
    "prompt/chosen/rejected (text or chat messages), chosen/rejected (whole dialogues: chat "
    "messages, or text as in HH-RLHF), question/answer_matching_behavior/"
    "answer_not_matching_behavior (persona)"
)

_HH_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}


class _UnusableError(Exception):
    """Something in this row cannot be used; `field` names the column."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what. A persona row needs its prompt; others may be whole dialogues."""

    prompt: str
    preferred: str
    dispreferred: str
    persona: bool = False

    def all(self) -> tuple[str, str, str]:
        return self.prompt, self.preferred, self.dispreferred

    def fit(self, found: Iterable[str]) -> bool:
        """Whether a row with these columns is meant. Without a prompt, dialogues are."""
        needed = set(self.all()) if self.persona else {self.preferred, self.dispreferred}
        return needed <= set(found)


KNOWN_COLUMNS = (
    Columns("prompt", "chosen", "rejected"),
    Columns("prompt", "preferred", "dispreferred"),
    Columns("question", "answer_matching_behavior", "answer_not_matching_behavior", persona=True),
)


def recognise(found: Iterable[str]) -> Columns | None:
    """The known form that these columns make up, if any."""
    names = set(found)
    return next((columns for columns in KNOWN_COLUMNS if columns.fit(names)), None)


def nearest(found: Iterable[str]) -> Columns | None:
    """The form that shares most of the columns, to say what is missing; None where none does."""
    names = set(found)
    best = max(KNOWN_COLUMNS, key=lambda columns: len(names & set(columns.all())))
    return best if names & set(best.all()) else None


def parse_row(source: SourceRow, columns: Columns) -> PairRow | RowError:
    """The pair that a row holds, or why it holds none. Never raises, whatever the row holds."""
    try:
        cells = {
            _storable_text(name, name): _storable(value, name)
            for name, value in source.columns.items()
        }
        form, prompt, preferred, dispreferred = _pair(cells, columns)
        _check_pair(prompt, preferred, dispreferred, columns)
    except _UnusableError as error:
        return RowError(source.row, error.message, error.field)
    except RecursionError:
        return RowError(source.row, "nested too deeply")
    meta = {name: value for name, value in cells.items() if name not in columns.all()}
    # The file's own column of this name gives way: `row` is where the pair is found again.
    meta["row"] = source.row
    return PairRow(source.row, form, prompt, preferred, dispreferred, meta)


def _pair(cells: dict[str, Any], columns: Columns) -> tuple[str, Prompt, str, str]:
    """(form, prompt, preferred, dispreferred)."""
    prompt = cells.get(columns.prompt)
    preferred = _required(cells, columns.preferred)
    dispreferred = _required(cells, columns.dispreferred)
    if type(preferred) is not type(dispreferred):
        raise _UnusableError(
            columns.dispreferred, f"must be of the same type as {columns.preferred}"
        )
    if isinstance(preferred, str):
        return _from_texts(prompt, preferred, dispreferred, columns)
    if isinstance(preferred, list):
        return _from_messages(
            prompt,
            _messages(preferred, columns.preferred),
            _messages(dispreferred, columns.dispreferred),
            columns,
        )
    raise _UnusableError(columns.preferred, "must be text or a list of chat messages")


def _required(cells: dict[str, Any], name: str) -> Any:
    value = cells.get(name)
    if value is None:
        raise _UnusableError(name, "is missing")
    return value


def _from_texts(
    prompt: Any, preferred: str, dispreferred: str, columns: Columns
) -> tuple[str, Prompt, str, str]:
    if columns.persona:
        if not isinstance(prompt, str):
            raise _UnusableError(columns.prompt, "is missing" if prompt is None else "must be text")
        # The answers of this data begin with a space, which a chat template supplies itself.
        return "persona", prompt, preferred.strip(), dispreferred.strip()
    if isinstance(prompt, str):
        return "text", prompt, preferred, dispreferred
    if isinstance(prompt, list):
        return "chat", _messages(prompt, columns.prompt), preferred, dispreferred
    if prompt is not None:
        raise _UnusableError(columns.prompt, "must be text or a list of chat messages")
    if not _is_dialogue(preferred):
        raise _UnusableError(
            columns.prompt,
            f"is missing, and {columns.preferred} is no dialogue that holds the prompt",
        )
    before, ours, theirs = _cut(_turns(preferred), _turns(dispreferred), columns)
    return "hh-rlhf", before, ours, theirs


def _from_messages(
    prompt: Any, preferred: Messages, dispreferred: Messages, columns: Columns
) -> tuple[str, Prompt, str, str]:
    before, ours, theirs = _cut(preferred, dispreferred, columns)
    if isinstance(prompt, list):
        explicit = _messages(prompt, columns.prompt)
        # Some files repeat the prompt at the beginning of both dialogues, others do not.
        before = before if before[: len(explicit)] == explicit else explicit + before
    elif isinstance(prompt, str):
        before = before or [{"role": "user", "content": prompt}]
    elif prompt is not None:
        raise _UnusableError(columns.prompt, "must be text or a list of chat messages")
    return "chat", before, ours, theirs


def _messages(value: Any, field: str) -> Messages:
    if not isinstance(value, list) or not value:
        raise _UnusableError(field, "must be a list of chat messages, at least one")
    messages = []
    for number, message in enumerate(value, start=1):
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(role, str) or not role or not isinstance(content, str):
            raise _UnusableError(
                field, f"message {number} must have a `role` and a `content`, both text"
            )
        messages.append({"role": role, "content": content})
    return messages


def _is_dialogue(text: str) -> bool:
    return _HH_TURN.match(text.lstrip()) is not None


def _turns(text: str) -> Messages:
    """'\\n\\nHuman: Hi\\n\\nAssistant: Hello' -> [{user, Hi}, {assistant, Hello}]"""
    _, *parts = _HH_TURN.split(text.lstrip())
    return [
        {"role": _HH_ROLES[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _cut(ours: Messages, theirs: Messages, columns: Columns) -> tuple[Messages, str, str]:
    """(common messages, our last one, their last one) of two dialogues."""
    for field, dialogue in ((columns.preferred, ours), (columns.dispreferred, theirs)):
        if not dialogue or dialogue[-1]["role"] != "assistant":
            raise _UnusableError(field, "must end with a message of the assistant")
    if ours[:-1] != theirs[:-1]:
        raise _UnusableError(
            columns.dispreferred,
            f"differs from {columns.preferred} before the last message, so the two responses "
            "do not answer the same prompt",
        )
    return ours[:-1], ours[-1]["content"], theirs[-1]["content"]


def _check_pair(prompt: Prompt, preferred: str, dispreferred: str, columns: Columns) -> None:
    texts = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
    if not any(text.strip() for text in texts):
        raise _UnusableError(columns.prompt, "the prompt is empty")
    if not preferred.strip():
        raise _UnusableError(columns.preferred, "the response is empty")
    if not dispreferred.strip():
        raise _UnusableError(columns.dispreferred, "the response is empty")
    if preferred == dispreferred:
        raise _UnusableError(columns.dispreferred, "the two responses are identical")


def _storable(value: Any, field: str) -> Any:
    """The value as PostgreSQL can hold it in JSON: NaN and infinity become null.

    Raises:
        _UnusableError: it holds a NUL character or a lone surrogate.
    """
    match value:
        case str():
            return _storable_text(value, field)
        case float():
            return value if math.isfinite(value) else None
        case list():
            return [_storable(item, field) for item in value]
        case dict():
            return {
                _storable_text(key, field): _storable(item, field) for key, item in value.items()
            }
    return value


def _storable_text(text: str, field: str) -> str:
    if "\0" in text:
        raise _UnusableError(field, "holds a NUL character, which PostgreSQL cannot store")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _UnusableError(
                field, f"is broken Unicode at character {error.start + 1} (not valid UTF-8)"
            ) from error
    return text
