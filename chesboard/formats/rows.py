"""Rows of a preference file: as read, parsed into a pair, or rejected."""

from dataclasses import dataclass
from typing import Any, Literal

from chesboard.formats.errors import ErrorItem
from chesboard.formats.remarks import Remark
from chesboard.formats.text import sanitize
from chesboard.pairs import Prompt

Reason = Literal["unreadable", "missing", "empty", "identical", "undecided", "unpaired", "unusable"]
"""Why a row is rejected: it cannot be read, a column is missing, the prompt or a response is
empty, the two responses are identical, neither is preferred, a single response has no counterpart,
or any other reason."""

SNIPPET_CHARACTERS = 120
SNIPPET_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as read. `row` is its line in the file (in an array or table: its position)."""

    row: int
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PairRow:
    """A row parsed into a pair. PostgreSQL can store all of its texts.

    meta: the other columns, and `row`. source: what `chesboard.formats.layouts` needs besides to
    restore the row. remarks: what reading the row mended or left open in its prompt and responses.
    """

    row: int
    form: str
    prompt: Prompt
    preferred: str
    dispreferred: str
    meta: dict[str, Any]
    source: dict[str, Any] | None = None
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class RowError:
    """A rejected row, with the reason."""

    row: int
    message: str
    field: str | None = None
    snippet: str | None = None
    reason: Reason = "unreadable"

    def as_item(self) -> ErrorItem:
        """As it is stored and sent; quotes from the file are shortened and sanitized."""
        item = ErrorItem(row=self.row, message=shortened(self.message))
        if self.field is not None:
            item["field"] = shortened(self.field)
        if self.snippet is not None:
            item["snippet"] = shortened(self.snippet)
        return item


def snippet_of(source: SourceRow, field: str | None = None) -> str | None:
    """The beginning of the cell at fault, or of the row where it lacks the cell."""
    value = source.columns.get(field) if field is not None else None
    if value is not None:
        return _beginning(value)
    first = list(source.columns.items())[:SNIPPET_COLUMNS]
    row = ", ".join(f"{name[:SNIPPET_CHARACTERS]}: {_beginning(cell)}" for name, cell in first)
    return row[:SNIPPET_CHARACTERS] or None


def _beginning(value: Any) -> str:
    """The beginning of a value as text; a row may have megabytes, only a little is formatted."""
    if isinstance(value, list):
        value = [_without_lists(item) for item in value[:2]]
    elif isinstance(value, dict):
        value = _without_lists(value)
    elif isinstance(value, str):
        return value[:SNIPPET_CHARACTERS]
    return str(value)[:SNIPPET_CHARACTERS]


def _without_lists(value: Any) -> Any:
    """The value, with the lists and objects in it left out: a cell may be nested without end."""
    if isinstance(value, dict):
        first = list(value.items())[:SNIPPET_COLUMNS]
        return {name: "…" if isinstance(v, list | dict) else v for name, v in first}
    return "…" if isinstance(value, list) else value


def shortened(text: str) -> str:
    """Cut to a snippet and sanitized, so that it can be stored and sent."""
    if len(text) > SNIPPET_CHARACTERS * 2:
        text = text[: SNIPPET_CHARACTERS * 2] + "…"
    return sanitize(text)
