"""What a row of a preference file is, before and after it is understood."""

from dataclasses import dataclass
from typing import Any, Literal

from chesboard.formats.errors import ErrorItem
from chesboard.formats.text import sanitize
from chesboard.pairs import Prompt

Reason = Literal["unreadable", "missing", "empty", "identical", "undecided", "unusable"]
"""Why a row is rejected: it cannot be read, a column is missing, the prompt or a response is
empty, the two responses are identical, neither is preferred, or it is unusable otherwise."""

SNIPPET_CHARACTERS = 120
SNIPPET_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as it was written. `row` is its line in the file (in an array or table: its place)."""

    row: int
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PairRow:
    """A row that was understood. Every text in it can be stored.

    source: what is needed, besides the rest, to write the row as it came; see
    `chesboard.formats.layouts`.
    """

    row: int
    form: str
    prompt: Prompt
    preferred: str
    dispreferred: str
    meta: dict[str, Any]
    source: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that cannot be used, and why."""

    row: int
    message: str
    field: str | None = None
    snippet: str | None = None
    reason: Reason = "unreadable"

    def as_item(self) -> ErrorItem:
        """As it is stored and sent; what was quoted from the file is made presentable."""
        item = ErrorItem(row=self.row, message=shortened(self.message))
        if self.field is not None:
            item["field"] = shortened(self.field)
        if self.snippet is not None:
            item["snippet"] = shortened(self.snippet)
        return item


def snippet_of(source: SourceRow, field: str | None = None) -> str | None:
    """How the cell begins that could not be used; the row, where the cell is not there."""
    value = source.columns.get(field) if field is not None else None
    if value is not None:
        return _begun(value)
    first = list(source.columns.items())[:SNIPPET_COLUMNS]
    row = ", ".join(f"{name[:SNIPPET_CHARACTERS]}: {_begun(cell)}" for name, cell in first)
    return row[:SNIPPET_CHARACTERS] or None


def _begun(value: Any) -> str:
    """The beginning of a value. A row may be megabytes: only what is shown becomes text."""
    if isinstance(value, list):
        value = [_begun(item) if isinstance(item, list | dict) else item for item in value[:2]]
    elif isinstance(value, dict):
        value = dict(list(value.items())[:SNIPPET_COLUMNS])
        value = {name: "…" if isinstance(v, list | dict) else v for name, v in value.items()}
    elif isinstance(value, str):
        return value[:SNIPPET_CHARACTERS]
    return str(value)[:SNIPPET_CHARACTERS]


def shortened(text: str) -> str:
    """Cut to a snippet and sanitized, so that it can be stored and sent."""
    if len(text) > SNIPPET_CHARACTERS * 2:
        text = text[: SNIPPET_CHARACTERS * 2] + "…"
    return sanitize(text)
