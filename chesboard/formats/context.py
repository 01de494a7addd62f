"""What looks like context in a row, but is not in its pair, or only for some models."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from chesboard.formats.columns import Columns
from chesboard.formats.dialogues import ROLES, Messages, UnusableError, is_blank, read_messages
from chesboard.formats.history import read_history
from chesboard.formats.message_text import (
    begins_like_messages,
    looks_like_messages,
    parse_messages,
    parse_prompt,
)
from chesboard.formats.remarks import Remark
from chesboard.formats.rows import PairRow
from chesboard.formats.storable import MAX_DEPTH as MAX_NESTING
from chesboard.formats.text import sanitize
from chesboard.formats.transcripts import read_transcript
from chesboard.pairs import MESSAGE_FIELDS
from chesboard.template_marks import find_mark

COLUMNS = frozenset(
    {
        *("system", "system_prompt", "system_message", "input", "inputs", "instruction"),
        *("instructions", "prompt", "question", "query", "post", "user", "context", "contexts"),
        *("background", "history", "chat_history", "messages", "conversation", "conversations"),
        *("dialog", "dialogs", "dialogue", "dialogues", "turns", "passage", "passages"),
        *("document", "documents", "article", "knowledge", "persona", "scenario", "preamble"),
        *("prefix", "demonstrations", "few_shot", "examples", "chat", "sys", "system_content"),
        *("premise", "paragraph", "story", "source_text", "schema", "prefill"),
        *("initial_reason_steps", "tool_calls", "reasoning_content"),
    }
)
"""Names of columns, in lower case, that hold part of a prompt wherever they are used."""

SUFFIXES = (
    *("_history", "_context", "_messages", "_prompt", "_instruction", "_instructions"),
    *("_turns", "_conversation", "_dialogue", "_prefix"),
)

JUDGING = re.compile(r"(?:label+ing|judg(?:e|ing)|rating|grading|eval(?:uation)?|annotation)_")
"""Columns that begin so were asked of a judge of the responses, not of the model."""

_MEDIA = ("image", "video", "audio")
MEDIA = frozenset(
    f"{name}{ending}" for name in _MEDIA for ending in ("", "s", "_path", "_paths", "_url", "_urls")
)
TOOLS = frozenset(
    {
        *("tools", "functions", "tools_json", "available_tools", "tool_definitions"),
        *("tool_schemas", "function_definitions"),
    }
)
"""Columns and fields that a text of the pair cannot stand for, whatever it says."""

REFERENCES = frozenset({"parent_id", "parent", "reply_to"})
"""Columns that name another row, which holds the earlier turns."""

_NEVER_READ = REFERENCES | MEDIA | TOOLS

FIELDS = frozenset(
    {
        *MESSAGE_FIELDS,
        *MEDIA,
        *("reasoning_details", "thought", "thoughts", "refusal", "documents", "attachments"),
    }
)
"""Fields of a message besides its role and content that a chat template may render."""

KNOWN_ROLES = frozenset(ROLES.values())

MAX_DEPTH = 4
"""How deep in a column's objects messages are looked for."""


class _PairText:
    """The texts of a pair, joined when they are first asked for."""

    def __init__(self, pair: PairRow) -> None:
        self._pair = pair

    @cached_property
    def _text(self) -> str:
        prompt = self._pair.prompt
        texts = [prompt] if isinstance(prompt, str) else _texts(prompt, all_=True)
        return "\n".join([*texts, self._pair.preferred, self._pair.dispreferred])

    def holds(self, part: str) -> bool:
        """Whether the pair has this text, not only as a piece of a word: "hi" is not in "this"."""
        text, size = self._text, len(part)
        at = text.find(part)
        while at >= 0:
            around = text[max(0, at - 1) : at + 1], text[at + size - 1 : at + size + 1]
            if not part or not any(len(pair) == 2 and pair.isalnum() for pair in around):
                return True
            at = text.find(part, at + 1)
        return False


def unread_context(cells: Mapping[str, Any], columns: Columns, pair: PairRow) -> Iterator[Remark]:
    """Remarks on what looks like part of the row's prompt, but is nowhere in its pair, and on what
    only some models read.

    cells: the row as it was read. A column whose texts the prompt and the responses already
    contain (datasets repeat the dialogue in `messages`) counts as read.
    """
    text = _PairText(pair)
    used = {*columns.all(), *columns.verdicts(), columns.prompt.split(".")[0]}
    for name, value in cells.items():
        if name in used and not _is_empty(value):
            yield from _in_column(name, value, columns, text)
            if isinstance(value, dict) and columns.prompt.startswith(f"{name}."):
                yield from _nested(name, value, text)
        elif name in used or _is_empty(value):
            continue
        elif _is_unread(name, value, text):
            yield Remark("unread_column", name)
        elif isinstance(value, dict):
            yield from _nested(name, value, text)
    yield from _in_turns(pair)
    yield from _in_texts(pair)


def _is_empty(value: Any) -> bool:
    """Whether a cell holds nothing, also as a table writes it as text."""
    return is_blank(value) or value in ("[]", "{}", "null", "None", "nan")


def _is_unread(name: str, value: Any, text: _PairText) -> bool:
    folded = name.casefold().strip().replace(" ", "_").replace("-", "_")
    if folded in _NEVER_READ:
        return True
    if JUDGING.match(folded):
        return False
    if isinstance(value, str) and begins_like_messages(value):
        value = parse_messages(value)
    if folded in COLUMNS or folded.endswith(SUFFIXES):
        return not all(text.holds(part) for part in _texts(value))
    return _has_unread_turn(value, text)


def _has_unread_turn(value: Any, text: _PairText) -> bool:
    """Whether a value is a list of messages with a turn of others than the assistant that the pair
    lacks, whatever its name."""
    turns = _messages(value) if isinstance(value, list) else []
    return any(
        turn["role"] != "assistant" and not text.holds(turn["content"].strip()) for turn in turns
    )


def _messages(value: Any) -> Messages:
    """The messages of a cell; none where it holds anything else."""
    if isinstance(value, str) and begins_like_messages(value):
        value = parse_messages(value)
    if not isinstance(value, list | dict):
        return []
    try:
        return read_messages(value, "")
    except UnusableError:
        return []


def _nested(path: str, value: dict[str, Any], text: _PairText, depth: int = 1) -> Iterator[Remark]:
    """What looks like context within an object, by the same names as those of columns."""
    for name, inner in value.items():
        here = f"{path}.{name}"
        if not _is_empty(inner) and _is_unread(name, inner, text):
            yield Remark("unread_column", here)
        elif isinstance(inner, dict) and depth < MAX_DEPTH:
            yield from _nested(here, inner, text, depth + 1)


def _in_column(name: str, value: Any, columns: Columns, text: _PairText) -> Iterator[Remark]:
    """Remarks on a column of the pair."""
    is_response = name in (columns.preferred, columns.dispreferred)
    is_prompt = name in (columns.prompt, columns.system, columns.context, columns.history)
    if isinstance(value, str) and not looks_like_messages(value):
        if is_response or text.holds(value.strip()):
            return
    elif isinstance(value, str):
        parsed = parse_prompt(value) if name == columns.prompt else parse_messages(value)
        if parsed is value and begins_like_messages(value):
            yield Remark("broken_messages", name)
        value = parsed
    if isinstance(value, dict) and "messages" in value:
        # OpenAI's `input`: what stands beside the messages, such as the tools.
        for field, beside in value.items():
            if field != "messages" and not _is_empty(beside) and _is_unread(field, beside, text):
                yield Remark("unread_column", f"{name}.{field}")
        value = value["messages"]
    turns = _messages(value)
    yield from _fields(value, turns, is_response=is_response)
    if is_prompt and not all(text.holds(part) for part in _said(name, value, turns, columns)):
        yield Remark("unread_column", name)


def _said(name: str, value: Any, turns: Messages, columns: Columns) -> list[str]:
    """The texts of a column of the prompt, without the names of speakers."""
    if name == columns.history:
        turns = read_history(value, name)
    elif isinstance(value, str) and (transcript := read_transcript(value)):
        turns = [*transcript.turns]
    if turns:
        return [turn["content"].strip() for turn in turns]
    return list(_texts(value))


def _texts(value: Any, *, all_: bool = False, depth: int = 1) -> Iterator[str]:
    """The texts in a cell; of messages, their contents, or (all_) those of all their fields."""
    if depth > MAX_NESTING:
        return
    match value:
        case str():
            if value.strip():
                yield value.strip()
        case list():
            for item in value:
                yield from _texts(item, all_=all_, depth=depth + 1)
        case {"type": "text", "text": content}:
            yield from _texts(content, depth=depth + 1)
        case {"content": content} | {"value": content} if not all_:
            yield from _texts(content, depth=depth + 1)
        case dict():
            for item in value.values():
                yield from _texts(item, all_=all_, depth=depth + 1)


def _fields(value: Any, turns: Messages, *, is_response: bool) -> Iterator[Remark]:
    """Fields of messages besides role and content: those of the response are not read, those of
    the prompt that are kept depend on the template."""
    for turn in turns[:-1] if is_response else turns:
        yield from (
            Remark("template_field", name) for name in turn if name not in ("role", "content")
        )
    for turn in turns[-1:] if is_response else []:
        yield from (
            Remark("unread_field", name) for name in turn if name not in ("role", "content")
        )
    kept = {name for turn in turns for name in turn}
    for message in value if isinstance(value, list) else [value]:
        if isinstance(message, dict):
            for name, content in message.items():
                if name in FIELDS and name not in kept and not is_blank(content):
                    yield Remark("unread_field", name)


def _in_turns(pair: PairRow) -> Iterator[Remark]:
    """Roles of the prompt's turns that chat templates do not know."""
    if not isinstance(pair.prompt, str):
        for turn in pair.prompt:
            if turn["role"] not in KNOWN_ROLES:
                yield Remark("unknown_role", sanitize(turn["role"]))


def _in_texts(pair: PairRow) -> Iterator[Remark]:
    """Marks of chat templates in the texts, by the first of each."""
    prompt = [pair.prompt] if isinstance(pair.prompt, str) else [t["content"] for t in pair.prompt]
    if mark := _first_mark(*prompt):
        yield Remark("rendered_prompt", mark)
    if mark := _first_mark(pair.preferred, pair.dispreferred):
        yield Remark("marks_in_response", mark)


def _first_mark(*texts: str) -> str | None:
    return next((mark for text in texts if (mark := find_mark(text))), None)
