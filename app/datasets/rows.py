"""What a row of a preference file is, before and after it is understood."""

from dataclasses import dataclass
from typing import Any

from app.errors import ErrorItem

Prompt = str | list[dict[str, str]]
"""Plain text, or chat messages {role, content}."""

SNIPPET_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as it was written. `row` is its line in the file (in a JSON array: its place)."""

    row: int
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PairRow:
    """A row that was understood. Every text in it can be stored."""

    row: int
    form: str
    prompt: Prompt
    preferred: str
    dispreferred: str
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that cannot be used, and why."""

    row: int
    message: str
    field: str | None = None
    snippet: str | None = None

    def as_item(self) -> ErrorItem:
        """As it is stored and sent; what was quoted from the file is made presentable."""
        item = ErrorItem(row=self.row, message=presentable(self.message))
        if self.field is not None:
            item["field"] = presentable(self.field)
        if self.snippet is not None:
            item["snippet"] = presentable(self.snippet)
        return item


def presentable(text: str) -> str:
    """Cut to a snippet, and without what JSON in PostgreSQL cannot hold."""
    if len(text) > SNIPPET_CHARACTERS * 2:
        text = text[: SNIPPET_CHARACTERS * 2] + "…"
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{SYMBOL FOR NULL}")
