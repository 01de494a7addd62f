"""Writes a pair in the layout of its source row: the inverse of `chesboard.formats.forms`.

A form has several layouts for the same pair (the prompt in a column of its own or repeated in both
responses; the preferred response first or second). The number of the row's layout is kept with the
pair; where no layout reproduces the row exactly (unusual blanks between turns, messages with more
than a role and a content), its cells are kept. So an export in the original form reproduces the
file, and almost nothing is stored twice.
"""

from collections.abc import Iterator
from typing import Any

from chesboard.formats.choices import first_is_preferred
from chesboard.formats.columns import Columns
from chesboard.formats.dialogues import Messages, common_words
from chesboard.formats.transcripts import write_dialogue
from chesboard.pairs import Prompt

Cells = dict[str, Any]


def source_of(
    columns: Columns, prompt: Prompt, preferred: str, dispreferred: str, cells: Cells
) -> dict[str, Any] | None:
    """What `restore` needs besides the pair: None, {"layout": number} or {"cells": …}; also
    `layout` beside cells."""
    consumed = {name: cells[name] for name in columns.all() if name in cells}
    for number, layout in enumerate(layouts(columns, prompt, preferred, dispreferred)):
        if layout == consumed:
            return {"layout": number} if number else None
    # An edited pair is written with its responses in the order of its row.
    is_swapped = not first_is_preferred(cells, columns)
    return {"cells": consumed, **({"layout": 1} if is_swapped else {})}


def restore(
    columns: Columns,
    prompt: Prompt,
    preferred: str,
    dispreferred: str,
    source: dict[str, Any] | None,
    *,
    is_edited: bool,
) -> Cells:
    """The columns of the pair as in its source row; of an edited pair, in the same layout."""
    source = source or {}
    if "cells" in source and not is_edited:
        cells: Cells = source["cells"]
        return cells
    wanted = source.get("layout", 0)
    first = None
    for number, layout in enumerate(layouts(columns, prompt, preferred, dispreferred)):
        if number == wanted:
            return layout
        first = first or layout
    # The edited pair does not fit the layout of its source row.
    return first or {
        columns.prompt: prompt,
        columns.preferred: preferred,
        columns.dispreferred: dispreferred,
    }


def layouts(columns: Columns, prompt: Prompt, preferred: str, dispreferred: str) -> Iterator[Cells]:
    """Every layout that the pair can have in these columns, in a fixed order."""
    sides = preferred, dispreferred
    for cells, ours, theirs in _prompts(columns, prompt, *sides):
        pair = {columns.preferred: ours, columns.dispreferred: theirs}
        if columns.choice:
            name, first, second = columns.choice
            swapped = {columns.preferred: theirs, columns.dispreferred: ours}
            kinds = (int, str) if isinstance(first, int) else (str,)  # in CSV every value is text
            for kind in kinds:
                yield {**cells, **pair, name: kind(first)}
                yield {**cells, **swapped, name: kind(second)}
        elif columns.verdicts():
            yield {**cells, **pair}
            yield {**cells, columns.preferred: theirs, columns.dispreferred: ours}
        else:
            yield {**cells, **pair}


def _prompts(
    columns: Columns, prompt: Prompt, ours: str, theirs: str
) -> Iterator[tuple[Cells, Any, Any]]:
    """(the prompt's cells, both responses), for each way to write the prompt."""
    name = columns.prompt
    if columns.persona:
        # The public files have leading spaces; see `forms`.
        yield {name: prompt}, f" {ours}", f" {theirs}"
        yield {name: prompt}, ours, theirs
    elif isinstance(prompt, str):
        for more in _contexts(columns):
            yield {name: prompt, **more}, ours, theirs
        whole = prompt + ours, prompt + theirs
        if common_words(*whole) == len(prompt):
            yield {}, *whole
    else:
        yield from _chats(columns, prompt, ours, theirs)
        if columns.system:
            for said, rest in _without_system(prompt):
                for cells, *both in _chats(columns, rest, ours, theirs):
                    for value in said:
                        yield {**cells, columns.system: value}, *both


def _contexts(columns: Columns) -> Iterator[Cells]:
    if columns.context:
        yield {columns.context: ""}
        yield {columns.context: None}
    yield {}


def _without_system(prompt: Messages) -> Iterator[tuple[tuple[str | None, ...], Messages]]:
    """(what the system column may hold, the other messages)."""
    if prompt[0]["role"] == "system" and len(prompt) > 1:
        yield (prompt[0]["content"],), prompt[1:]
    else:
        yield ("", None), prompt


def _chats(
    columns: Columns, prompt: Messages, ours: str, theirs: str
) -> Iterator[tuple[Cells, Any, Any]]:
    name = columns.prompt
    said, answered = _said(ours), _said(theirs)
    yield {name: prompt}, said, answered
    yield {name: prompt}, ours, theirs
    yield {}, prompt + said, prompt + answered
    users = [message["content"] for message in prompt if message["role"] == "user"]
    if users:
        # UltraFeedback repeats the first question in a column of its own.
        yield {name: users[0]}, prompt + said, prompt + answered
        yield {name: users[-1]}, prompt + said, prompt + answered
    yield {name: prompt}, prompt + said, prompt + answered
    if len(prompt) == 1 and users:
        for more in _contexts(columns):
            yield {name: users[0], **more}, ours, theirs
        yield {name: users[0]}, said, answered
    if all(message["role"] in ("user", "assistant") for message in prompt):
        yield {}, write_dialogue(prompt + said), write_dialogue(prompt + answered)


def _said(response: str) -> Messages:
    return [{"role": "assistant", "content": response}]
