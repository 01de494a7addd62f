"""Context of a row that is not read: columns and fields of messages that look like prompt."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from chesboard.formats.columns import Columns
from chesboard.formats.rows import PairRow

COLUMNS = frozenset(
    {
        *(
            "system",
            "system_prompt",
            "system_message",
            "input",
            "context",
            "contexts",
            "background",
        ),
        *("history", "chat_history", "messages", "conversation", "conversations", "dialog"),
        *("dialogue", "turns", "passage", "documents", "document", "image", "images"),
        *("tools", "functions", "tool_calls", "reasoning_content"),
    }
)
"""Names of columns, in lower case, that hold part of a prompt wherever they are used."""

REFERENCES = frozenset({"parent_id", "parent", "reply_to"})
"""Columns that name another row, which holds the earlier turns."""

FIELDS = frozenset(
    {
        *("tool_calls", "tool_call_id", "function_call", "tools", "name"),
        *("reasoning_content", "reasoning", "thinking", "images", "audio"),
    }
)
"""Fields of a message besides its role and content that a chat template may render."""


class Unread(NamedTuple):
    """A column of the row, or a field of its messages, that is not in the pair."""

    name: str
    is_field: bool


def unread_context(cells: Mapping[str, Any], columns: Columns, pair: PairRow) -> Iterator[Unread]:
    """What looks like part of the row's prompt, but is nowhere in its pair.

    cells: the row as it was read. A column whose texts the prompt and the responses already
    contain (datasets repeat the dialogue in `messages`) counts as read.
    """
    used = {*columns.all(), *(columns.scores or ())}
    text: str | None = None
    for name, value in cells.items():
        folded = name.casefold().strip()
        if name in used or value in (None, "", [], {}):
            continue
        if folded in REFERENCES:
            yield Unread(name, is_field=False)
        elif folded in COLUMNS:
            text = _text_of(pair) if text is None else text
            if any(part not in text for part in _texts(value)):
                yield Unread(name, is_field=False)
    for name in columns.all():
        for field in _fields(cells.get(name)):
            yield Unread(field, is_field=True)


def warning(unread: Unread, rows: int, first_row: int) -> str:
    """One sentence on what is not read, in how many rows, and what to do."""
    where = f"in row {first_row}" if rows == 1 else f"in {rows:,} rows, the first is {first_row}"
    if unread.is_field:
        return (
            f"Messages have a field `{unread.name}` that is not read ({where}). Only role and "
            "content are: write what the model should see into the content."
        )
    return (
        f"The column `{unread.name}` looks like part of the prompt, but is not read ({where}). "
        "Write it into the prompt, or leave the column out if it is not."
    )


def _text_of(pair: PairRow) -> str:
    prompt = [pair.prompt] if isinstance(pair.prompt, str) else [t["content"] for t in pair.prompt]
    return "\n".join([*prompt, pair.preferred, pair.dispreferred])


def _texts(value: Any) -> Iterator[str]:
    """The texts in a cell; of messages, their contents."""
    match value:
        case str():
            if value.strip():
                yield value.strip()
        case list():
            for item in value:
                yield from _texts(item)
        case {"content": content} | {"value": content}:
            yield from _texts(content)
        case dict():
            for item in value.values():
                yield from _texts(item)


def _fields(value: Any) -> set[str]:
    messages = value if isinstance(value, list) else [value]
    return {
        name
        for message in messages
        if isinstance(message, dict)
        for name, content in message.items()
        if name in FIELDS and content not in (None, "", [], {})
    }
