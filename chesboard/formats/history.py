"""Earlier turns in a column of their own: LLaMA-Factory's pairs, ms-swift's, or chat messages."""

from typing import Any

from chesboard.formats.dialogues import Messages, UnusableError, read_messages
from chesboard.formats.message_text import parse_list


def read_history(value: Any, field: str) -> Messages:
    """The turns of a `history` cell; none where its meaning is not certain.

    [["Hi", "Hello"], ["And?", "So."]]      pairs of what the user and the assistant said
    [{"role": "user", "content": …}, …]     chat messages
    either of them as a text                 as JSON, or as Python prints it
    """
    if isinstance(value, str):
        value = parse_list(value)
    if not isinstance(value, list | dict) or not value:
        return []
    if isinstance(value, list) and all(_is_exchange(item) for item in value):
        return [
            {"role": role, "content": said}
            for item in value
            for role, said in zip(("user", "assistant"), item, strict=True)
        ]
    try:
        return read_messages(value, field)
    except UnusableError:
        return []


def _is_exchange(item: Any) -> bool:
    return (
        isinstance(item, list | tuple)
        and len(item) == 2
        and all(isinstance(said, str) and said.strip() for said in item)
    )
