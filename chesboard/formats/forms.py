"""Parses a row into a pair, by the roles of its columns (`chesboard.formats.columns`).

Of two whole dialogues, the common messages are the prompt, and the last message of each, the
assistant's, is the response.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from chesboard.formats.columns import Columns
from chesboard.formats.dialogues import (
    Messages,
    UnusableError,
    common_words,
    cut,
    is_dialogue,
    read_dialogue,
    read_messages,
)
from chesboard.formats.layouts import source_of
from chesboard.formats.message_text import parse_messages
from chesboard.formats.rows import PairRow, RowError, SourceRow, snippet_of
from chesboard.formats.text import find_unstorable, sanitize
from chesboard.pairs import Prompt

MAX_DEPTH = 64
"""Maximum nesting of a value; JSON encoders and pages that handle it later have limits too."""


class _Pair(NamedTuple):
    form: str
    prompt: Prompt
    preferred: str
    dispreferred: str


def parse_row(source: SourceRow, columns: Columns) -> PairRow | RowError:
    """The pair of a row, or the reason why it is rejected. Never raises, whatever the row holds."""
    try:
        cells = _cells(source, columns)
        pair = _pair(cells, columns)
        _check_pair(pair, columns)
    except UnusableError as error:
        snippet = snippet_of(source, error.field)
        return RowError(source.row, error.message, error.field, snippet, error.reason)
    consumed = columns.all()
    meta = {name: value for name, value in cells.items() if name not in consumed}
    origin = source_of(columns, pair.prompt, pair.preferred, pair.dispreferred, cells)
    if "row" in meta:
        # `row` is reserved for the place in the file; a column of this name moves to the source.
        origin = {**(origin or {}), "row": meta["row"]}
    meta["row"] = source.row
    return PairRow(source.row, *pair, meta, origin)


def _cells(source: SourceRow, columns: Columns) -> dict[str, Any]:
    """The row's cells as PostgreSQL can store them.

    Characters that it cannot store reject a row only in the cells that make up the pair; in the
    others they are replaced.

    Raises:
        UnusableError: a cell of the pair cannot be stored, or any is nested too deeply.
    """
    pair = {*columns.all(), *(columns.scores or ())}
    cells = {}
    for name, value in source.columns.items():
        if name in pair:
            cells[name] = _storable(value, name, partial(_storable_text, field=name))
        else:
            cells[sanitize(name)] = _storable(value, name, sanitize)
    return cells


def _pair(cells: dict[str, Any], columns: Columns) -> _Pair:
    # A table written as text holds messages as text, in every kind of file.
    cells = cells | {
        name: parse_messages(cells[name])
        for name in (columns.prompt, columns.preferred, columns.dispreferred)
        if isinstance(cells.get(name), str)
    }
    prompt = _prompt_cell(cells, columns)
    preferred, dispreferred = _ordered(cells, columns)
    if isinstance(preferred, str) and isinstance(dispreferred, str):
        pair = _from_texts(prompt, preferred, dispreferred, columns)
    elif isinstance(preferred, list | dict) and isinstance(dispreferred, list | dict):
        pair = _from_messages(
            prompt,
            read_messages(preferred, columns.preferred),
            read_messages(dispreferred, columns.dispreferred),
            columns,
        )
    elif isinstance(preferred, list) and isinstance(dispreferred, str):
        # A whole dialogue, and another answer to its last question.
        dialogue = read_messages(preferred, columns.preferred)
        other = [*dialogue[:-1], {"role": "assistant", "content": dispreferred}]
        pair = _from_messages(prompt, dialogue, other, columns)
    elif type(preferred) is not type(dispreferred):
        raise UnusableError(
            columns.dispreferred, f"must be of the same type as {columns.preferred}"
        )
    else:
        raise UnusableError(columns.preferred, "must be text or a list of chat messages")
    return _with_system(pair, cells, columns)


def _prompt_cell(cells: dict[str, Any], columns: Columns) -> Any:
    prompt = cells.get(columns.prompt)
    if isinstance(prompt, dict) and "messages" in prompt:
        prompt = prompt["messages"]  # OpenAI's `input`
    context = cells.get(columns.context) if columns.context else None
    if isinstance(prompt, str) and context:
        if not isinstance(context, str):
            raise UnusableError(columns.context, "must be text")
        return f"{prompt}\n\n{context}"
    return prompt


def _ordered(cells: dict[str, Any], columns: Columns) -> tuple[Any, Any]:
    """(preferred, dispreferred) response, ordered by the choice or the scores if there are any."""
    first = _required(cells, columns.preferred)
    second = _required(cells, columns.dispreferred)
    if columns.choice:
        return (first, second) if _first_is_chosen(cells, columns.choice) else (second, first)
    if columns.scores:
        ours, theirs = (_number(cells, name) for name in columns.scores)
        if ours == theirs:
            raise UnusableError(
                columns.scores[1], f"equals {columns.scores[0]}: neither is preferred", "undecided"
            )
        return (first, second) if ours > theirs else (second, first)
    return first, second


def _first_is_chosen(cells: dict[str, Any], choice: tuple[str, int, int]) -> bool:
    name, first, second = choice
    said = _number(cells, name)
    if said not in (first, second):
        raise UnusableError(
            name, f"must be {first} or {second}, which says the preferred response", "undecided"
        )
    return said == first


def _number(cells: dict[str, Any], name: str) -> float:
    value = _required(cells, name)
    try:
        # In CSV every value is text. A boolean is ambiguous as a choice of two.
        return float("" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        raise UnusableError(name, "must be a number", "undecided") from None


def _required(cells: dict[str, Any], name: str) -> Any:
    value = cells.get(name)
    if value is None:
        raise UnusableError(name, "is missing", "missing")
    return value


def _from_texts(prompt: Any, preferred: str, dispreferred: str, columns: Columns) -> _Pair:
    if columns.persona:
        if not isinstance(prompt, str):
            raise UnusableError(columns.prompt, *_no_prompt(prompt, "must be text"))
        # The answers of this data begin with a space, which chat templates supply themselves.
        return _Pair("persona", prompt, preferred.strip(), dispreferred.strip())
    if isinstance(prompt, str):
        return _Pair(columns.form or "text", prompt, preferred, dispreferred)
    if isinstance(prompt, list):
        messages = read_messages(prompt, columns.prompt)
        return _Pair(columns.form or "chat", messages, preferred, dispreferred)
    if prompt is not None or columns.choice or columns.scores:
        message = "must be text or a list of chat messages"
        raise UnusableError(columns.prompt, *_no_prompt(prompt, message))
    if is_dialogue(preferred):
        fields = columns.preferred, columns.dispreferred
        parted = cut(read_dialogue(preferred), read_dialogue(dispreferred), fields)
        return _Pair("hh-rlhf", *parted)
    return _from_common_words(preferred, dispreferred, columns)


def _no_prompt(prompt: Any, otherwise: str) -> tuple[str, Any]:
    return ("is missing", "missing") if prompt is None else (otherwise, "unusable")


def _from_common_words(preferred: str, dispreferred: str, columns: Columns) -> _Pair:
    at = common_words(preferred, dispreferred)
    if not preferred[:at].strip():
        raise UnusableError(
            columns.prompt,
            f"is missing, and {columns.preferred} is no dialogue that holds the prompt, nor do "
            "both responses begin with the same words",
            "missing",
        )
    return _Pair("implicit", preferred[:at], preferred[at:], dispreferred[at:])


def _from_messages(
    prompt: Any, preferred: Messages, dispreferred: Messages, columns: Columns
) -> _Pair:
    before, ours, theirs = cut(preferred, dispreferred, (columns.preferred, columns.dispreferred))
    form = columns.form or ("ultrafeedback" if columns.has_scores else "chat")
    if isinstance(prompt, list):
        explicit = read_messages(prompt, columns.prompt)
        # Some files repeat the prompt at the beginning of both dialogues, others do not.
        before = before if before[: len(explicit)] == explicit else explicit + before
    elif isinstance(prompt, str):
        before = before or [{"role": "user", "content": prompt}]
    elif prompt is not None:
        raise UnusableError(columns.prompt, "must be text or a list of chat messages")
    return _Pair(form, before, ours, theirs)


def _with_system(pair: _Pair, cells: dict[str, Any], columns: Columns) -> _Pair:
    """Prepend the system prompt of a separate column, which makes the prompt a chat."""
    if columns.system is None or columns.system not in cells:
        return pair
    said = cells[columns.system]
    if said is not None and not isinstance(said, str):
        raise UnusableError(columns.system, "must be text")
    prompt = pair.prompt
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if said and said.strip() and prompt[0]["role"] != "system":
        prompt = [{"role": "system", "content": said}, *prompt]
    form = "orpo" if pair.form in ("text", "chat") else pair.form
    return pair._replace(form=form, prompt=prompt)


def _check_pair(pair: _Pair, columns: Columns) -> None:
    _, prompt, preferred, dispreferred = pair
    # A system prompt alone counts as empty.
    texts = (
        [prompt]
        if isinstance(prompt, str)
        else [turn["content"] for turn in prompt if turn["role"] != "system"]
    )
    if not any(text.strip() for text in texts):
        raise UnusableError(columns.prompt, "the prompt is empty", "empty")
    if not preferred.strip():
        raise UnusableError(columns.preferred, "the response is empty", "empty")
    if not dispreferred.strip():
        raise UnusableError(columns.dispreferred, "the response is empty", "empty")
    if preferred == dispreferred:
        raise UnusableError(columns.dispreferred, "the two responses are identical", "identical")


def _storable(value: Any, field: str, text: Callable[[str], str], depth: int = 1) -> Any:
    """The value as PostgreSQL can store it in JSON: NaN and infinity become null.

    text: what becomes of each text in it, names of fields included.

    Raises:
        UnusableError: it is nested too deeply, or `text` raised it.
    """
    match value:
        case str():
            return text(value)
        case float():
            return value if math.isfinite(value) else None
        case list() | dict() if depth > MAX_DEPTH:
            raise UnusableError(field, f"nested too deeply (more than {MAX_DEPTH} levels)")
        case list():
            return [_storable(item, field, text, depth + 1) for item in value]
        case dict():
            return {
                text(key): _storable(item, field, text, depth + 1) for key, item in value.items()
            }
    return value


def _storable_text(text: str, field: str) -> str:
    found = find_unstorable(text)
    if found is None:
        return text
    if found.is_null:
        raise UnusableError(field, "holds a NUL character, which PostgreSQL cannot store")
    raise UnusableError(
        field, f"is broken Unicode at character {found.position + 1} (not valid UTF-8)"
    )
