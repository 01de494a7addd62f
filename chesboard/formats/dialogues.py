"""Parses chat messages, and finds where two dialogues, or two texts, diverge.

Dialogues are split between turns, and plain texts between words, never inside a word: displacement
is measured at the first tokens of the two responses.
"""

import unicodedata
from typing import Any

from chesboard.formats.rows import Reason
from chesboard.pairs import MESSAGE_FIELDS, Message

Messages = list[Message]

ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "ai", "bot"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "ipython"), "tool"),
    **dict.fromkeys(("system",), "system"),
}
"""Names of roles, in lower case, and the role that chat templates know. Others stay as they are."""


class UnusableError(Exception):
    """The row cannot be used; `field` names the column at fault."""

    def __init__(self, field: str | None, message: str, reason: Reason = "unusable") -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.reason = reason


def read_messages(value: Any, field: str) -> Messages:
    """Chat messages {role, content}, or ShareGPT's {from, value}, as {role, content}.

    The fields of `MESSAGE_FIELDS` stay beside them. A turn that only calls tools has the content
    null, as OpenAI writes it, or none; it becomes "".

    Raises:
        UnusableError: not a list of such messages, or one with content that is not text.
    """
    if isinstance(value, dict):
        value = from_struct(value) or [value]
    if not isinstance(value, list) or not value:
        raise UnusableError(field, "must be a list of chat messages, at least one")
    return [_read_message(message, number, field) for number, message in enumerate(value, start=1)]


def from_struct(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    """{"role": ["user"], "content": ["Hi"]} -> [{"role": "user", "content": "Hi"}].

    How pyarrow and `datasets` write a list of messages column by column. None for anything else.
    """
    columns = list(value.values())
    if not columns or not all(isinstance(column, list) for column in columns):
        return None
    if len({len(column) for column in columns}) != 1:
        return None
    return [dict(zip(value, message, strict=True)) for message in zip(*columns, strict=True)]


def _read_message(message: Any, number: int, field: str) -> Message:
    if not isinstance(message, dict):
        raise UnusableError(field, f"message {number} {_NO_MESSAGE}")
    if "role" in message:
        role, content = message["role"], _text_of(message.get("content"))
    else:
        role, content = message.get("from"), message.get("value")
    more = {name: message[name] for name in MESSAGE_FIELDS if not is_blank(message.get(name))}
    if content is None and more.keys() & _CALLS:
        content = ""
    if not isinstance(role, str) or not role or not isinstance(content, str):
        unread = _kind_of_part(content)
        problem = f"has a part of type `{unread}`, which is not read" if unread else _NO_MESSAGE
        raise UnusableError(field, f"message {number} {problem}")
    return {"role": ROLES.get(role.strip().casefold(), role), "content": content, **more}


_NO_MESSAGE = "must have a `role` and a `content`, both text"
_CALLS = {"tool_calls", "function_call"}


def is_blank(value: Any) -> bool:
    """Whether a field or a cell holds nothing: null, no items, or blank text."""
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())


def _text_of(content: Any) -> Any:
    """[{"type": "text", "text": "Hi"}] -> "Hi"; anything else as it is."""
    if isinstance(content, list) and content:
        texts = [_text_of_part(part) for part in content]
        if None not in texts:
            return "".join(text or "" for text in texts)
    return content


def _kind_of_part(content: Any) -> str | None:
    """The kind of the first part that is not text, such as image_url."""
    parts = content if isinstance(content, list) else []
    kinds = (p.get("type") for p in parts if isinstance(p, dict) and _text_of_part(p) is None)
    return next((kind for kind in kinds if isinstance(kind, str)), None)


def _text_of_part(part: Any) -> str | None:
    if isinstance(part, dict) and part.get("type", "text") == "text":
        text = part.get("text")
        return text if isinstance(text, str) else None
    return None


def cut(ours: Messages, theirs: Messages, fields: tuple[str, str]) -> tuple[Messages, str, str]:
    """(common messages, our last one, their last one) of two dialogues.

    Raises:
        UnusableError: they diverge before their last turns, or do not end with the assistant's.
    """
    for field, dialogue in zip(fields, (ours, theirs), strict=True):
        if not dialogue or dialogue[-1]["role"] != "assistant":
            raise UnusableError(field, "must end with a message of the assistant")
        calls = sorted(dialogue[-1].keys() & _CALLS)
        if calls and not dialogue[-1]["content"].strip():
            raise UnusableError(
                field,
                f"the response has no text, only `{calls[0]}`, which is not read: write the call "
                "into the content as the model writes it",
            )
    if ours[:-1] != theirs[:-1]:
        raise UnusableError(
            fields[1],
            f"differs from {fields[0]} before the last message, so the two responses "
            "do not answer the same prompt",
        )
    return ours[:-1], ours[-1]["content"], theirs[-1]["content"]


def common_words(ours: str, theirs: str) -> int:
    """Length in characters of the longest common prefix of whole words; neither rest is empty.

    "The sky is blue." and "The sky is black." -> 10: "The sky is", then " blue." and " black.".
    The blank before a word belongs to it, as in most tokenizers.
    """
    at = _common_characters(ours, theirs)
    if at == min(len(ours), len(theirs)):
        at -= 1  # one of them would have no response left
    while at > 0 and not (begins_word(ours, at) and begins_word(theirs, at)):
        at -= 1
    return max(at, 0)


def _common_characters(ours: str, theirs: str) -> int:
    # Binary search compares slices instead of millions of single characters.
    low, high = 0, min(len(ours), len(theirs))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if ours[:middle] == theirs[:middle] else (low, middle - 1)
    return low


def begins_word(text: str, at: int) -> bool:
    """Whether there is a word boundary at `at`; signs and ideographs are words of their own."""
    before, after = text[at - 1], text[at]
    if before.isspace() or _continues(after) or before == "\N{ZERO WIDTH JOINER}":
        return False
    return not (_is_in_word(before) and _is_in_word(after))


def _continues(character: str) -> bool:
    """Combining mark, zero-width joiner, skin tone or regional indicator: continues a grapheme."""
    return (
        unicodedata.category(character)[0] == "M"
        or character == "\N{ZERO WIDTH JOINER}"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U0001f1e6" <= character <= "\U0001f1ff"
    )


def _is_in_word(character: str) -> bool:
    """Letters, digits and the signs that join them, without ideographs."""
    if character in "'’_-.,":  # don't, 3.14, snake_case
        return True
    if unicodedata.category(character)[0] == "M":
        return True
    return character.isalnum() and not _is_ideograph(character)


def _is_ideograph(character: str) -> bool:
    # Han, Kana and Hangul syllables: written without blanks between words.
    return "\u3040" <= character <= "\u9fff" or "\U00020000" <= character <= "\U0003ffff"
