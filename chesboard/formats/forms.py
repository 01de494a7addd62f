"""Parses a row into a pair, by the roles of its columns (`chesboard.formats.columns`).

Of two whole dialogues, the common messages are the prompt, and the last message of each, the
assistant's, is the response.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from chesboard.formats.choices import ordered
from chesboard.formats.columns import Columns
from chesboard.formats.dialogues import Messages, UnusableError, is_blank, read_messages
from chesboard.formats.history import read_history
from chesboard.formats.layouts import source_of
from chesboard.formats.message_text import parse_messages, parse_prompt
from chesboard.formats.readings import Reading, from_messages, from_texts, without_repeats
from chesboard.formats.remarks import Remark
from chesboard.formats.repeats import join
from chesboard.formats.rows import PairRow, RowError, SourceRow, snippet_of
from chesboard.formats.storable import storable, storable_text
from chesboard.formats.text import sanitize
from chesboard.pairs import Prompt


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
    texts = pair.form, pair.prompt, pair.preferred, pair.dispreferred
    return PairRow(source.row, *texts, meta, origin, pair.remarks)


def _cells(source: SourceRow, columns: Columns) -> dict[str, Any]:
    """The row's cells as PostgreSQL can store them.

    Characters that it cannot store and too deep nesting reject a row only in the cells that make up
    the pair; in the others they are replaced.

    Raises:
        UnusableError: a cell of the pair cannot be stored.
    """
    pair = {*columns.all(), *columns.verdicts()}
    cells = {}
    for name, value in source.columns.items():
        if name in pair:
            cells[name] = storable(value, name, partial(storable_text, field=name))
        else:
            cells[sanitize(name)] = storable(value, name, sanitize, may_cut=True)
    return cells


def _pair(cells: dict[str, Any], columns: Columns) -> Reading:
    # A table written as text holds messages as text, in every kind of file.
    cells = cells | {
        name: _parsed(parse, cells[name], name)
        for name, parse in (
            (columns.prompt, parse_prompt),
            (columns.preferred, parse_messages),
            (columns.dispreferred, parse_messages),
        )
        if isinstance(cells.get(name), str)
    }
    prompt = _prompt_cell(cells, columns)
    preferred, dispreferred = ordered(cells, columns)
    if isinstance(preferred, str) and isinstance(dispreferred, str):
        pair = from_texts(prompt, preferred, dispreferred, columns)
    elif isinstance(preferred, list | dict) and isinstance(dispreferred, list | dict):
        ours = read_messages(preferred, columns.preferred)
        theirs = read_messages(dispreferred, columns.dispreferred)
        pair = from_messages(prompt, ours, theirs, columns)
    elif isinstance(preferred, list) and isinstance(dispreferred, str):
        # A whole dialogue, and another answer to its last question.
        ours = read_messages(preferred, columns.preferred)
        other = [*ours[:-1], {"role": "assistant", "content": dispreferred}]
        pair = from_messages(prompt, ours, other, columns)
    elif type(preferred) is not type(dispreferred):
        raise UnusableError(
            columns.dispreferred, f"must be of the same type as {columns.preferred}"
        )
    else:
        raise UnusableError(columns.preferred, "must be text or a list of chat messages")
    is_asked_apart = prompt is not None and isinstance(preferred, str)
    pair = without_repeats(pair, is_asked_apart=is_asked_apart)
    return _with_system(_with_history(pair, cells, columns), cells, columns)


def _parsed(parse: Callable[[str], Any], text: str, field: str) -> Any:
    """What a text holds: escapes in it may stand for characters that the text itself lacks."""
    found = parse(text)
    return found if found is text else storable(found, field, partial(storable_text, field=field))


def _prompt_cell(cells: dict[str, Any], columns: Columns) -> str | Messages | None:
    """The prompt of a column of its own, as text or as messages; None without one."""
    prompt = cells.get(columns.prompt)
    if isinstance(prompt, dict) and "messages" in prompt:
        prompt = prompt["messages"]  # OpenAI's `input`
    if is_blank(prompt) and columns.history:
        # A history that ends with a question holds the prompt, too.
        history = _history(cells, columns.history)
        if history and history[-1]["role"] != "assistant":
            return history
    if isinstance(prompt, list | dict):
        return read_messages(prompt, columns.prompt)
    if prompt is not None and not isinstance(prompt, str):
        raise UnusableError(columns.prompt, "must be text or a list of chat messages")
    context = cells.get(columns.context) if columns.context else None
    if prompt is not None and context:
        if not isinstance(context, str):
            raise UnusableError(columns.context, "must be text")
        return f"{prompt}\n\n{context}"
    return prompt


def _with_history(pair: Reading, cells: dict[str, Any], columns: Columns) -> Reading:
    """Put the earlier turns of a separate column before the prompt, after its system turn."""
    if columns.history is None:
        return pair
    history = _history(cells, columns.history)
    if not history or is_blank(pair.prompt) or pair.form == "implicit":
        return pair
    joined = join(history, _turns(pair.prompt), columns.history)
    pair = pair._replace(prompt=joined.turns, form="chat" if pair.form == "text" else pair.form)
    return pair if joined.fit else pair.noting(Remark("two_prompts"))


def _history(cells: dict[str, Any], field: str) -> Messages:
    turns: Messages = storable(
        read_history(cells.get(field), field), field, partial(storable_text, field=field)
    )
    return turns


def _turns(prompt: Prompt) -> Messages:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _with_system(pair: Reading, cells: dict[str, Any], columns: Columns) -> Reading:
    """Prepend the system prompt of a separate column, which makes the prompt a chat."""
    if columns.system is None or columns.system not in cells:
        return pair
    said = cells[columns.system]
    if said is not None and not isinstance(said, str):
        raise UnusableError(columns.system, "must be text")
    prompt = _turns(pair.prompt)
    if said and said.strip() and prompt[0]["role"] != "system":
        prompt = [{"role": "system", "content": said}, *prompt]
    form = "orpo" if pair.form in ("text", "chat") else pair.form
    return pair._replace(form=form, prompt=prompt)


def _check_pair(pair: Reading, columns: Columns) -> None:
    prompt, preferred, dispreferred = pair.prompt, pair.preferred, pair.dispreferred
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
