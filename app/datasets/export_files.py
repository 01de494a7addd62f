"""Writes rows as JSONL, CSV and Parquet so that reading them gives the same rows.

JSONL can represent any row. A table cannot, so CSV and Parquet are written in two passes: one to
find the types of each column, one to write the rows. chesboard/formats/csv_rows.py and
table_child.py describe how other values than text are encoded, and decode them.

Spreadsheets run a cell that begins with =, +, -, @, a tab or a carriage return as a formula. In
CSV such a cell is given a leading apostrophe, and the row's `chesboard:quoted` names the columns
where that was done; the column is there only where it is needed.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from app.core.errors import InvalidInputError
from chesboard.formats import table_rows
from chesboard.formats.csv_lines import FORMULA_SIGNS, guard_formula
from chesboard.formats.csv_rows import JSON_SUFFIX, QUOTED, header_of
from chesboard.formats.message_text import looks_like_messages

Cells = dict[str, Any]
Rows = Callable[[], Iterator[Cells]]
"""Gives the same rows on each call."""

MAX_TABLE_COLUMNS = 2000
PIECE_BYTES = 1 << 18
_INTEGERS = range(-(2**63), 2**63)


def write_jsonl(rows: Rows) -> Iterator[bytes]:
    yield from _in_pieces(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows())


def _in_pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of at least PIECE_BYTES."""
    piece = bytearray()
    for part in parts:
        piece += part
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


class _Column:
    """The types of a column's cells, collected in the first pass."""

    def __init__(self) -> None:
        self.present = 0
        self.nulls = 0
        self.kinds: set[str] = set()
        self.is_mistakable = False  # has a text that a reader would parse as chat messages
        self.is_recognizable = True  # a reader parses all messages as such

    def see(self, value: Any) -> None:
        self.present += 1
        if value is None:
            self.nulls += 1
            return
        kind = _kind(value)
        self.kinds.add(kind)
        if kind == "text":
            self.is_mistakable = self.is_mistakable or looks_like_messages(value)
        elif kind == "messages":
            self.is_recognizable = self.is_recognizable and looks_like_messages(_json(value))

    def is_plain_in_csv(self, rows: int) -> bool:
        """Whether a reader finds the types of the cells without a mark on the column."""
        if self.present < rows or self.nulls:
            return False
        if self.kinds == {"text"}:
            return not self.is_mistakable
        return self.kinds == {"messages"} and self.is_recognizable

    def in_parquet(self, name: str, rows: int) -> dict[str, Any]:
        """{name, kind, absent}; absent: a null means that the row lacks the column."""
        absent = self.present < rows
        kind = next(iter(self.kinds)) if len(self.kinds) == 1 else "json"
        if absent and self.nulls:
            kind = "json"
        return {"name": name, "kind": kind, "absent": absent}


def _kind(value: Any) -> str:
    match value:
        case str():
            return "text"
        case bool():
            return "bool"
        case int():
            return "integer" if value in _INTEGERS else "json"
        case float():
            return "number"
        case [_, *_] if all(_is_message(item) for item in value):
            return "messages"
    return "json"


def _is_message(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and item.keys() == {"role", "content"}
        and all(isinstance(text, str) for text in item.values())
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _scan(rows: Rows) -> tuple[dict[str, _Column], int, bool]:
    """(columns, number of rows, whether a text begins like a formula): the first pass.

    Raises:
        InvalidInputError: more columns than a table can have.
    """
    columns: dict[str, _Column] = {}
    number, has_formula = 0, False
    for row in rows():
        number += 1
        for name, value in row.items():
            if name not in columns:
                columns[name] = _Column()
            columns[name].see(value)
            if not has_formula and isinstance(value, str):
                has_formula = value.startswith(FORMULA_SIGNS)
        if len(columns) > MAX_TABLE_COLUMNS:
            raise InvalidInputError(
                f"The rows have more than {MAX_TABLE_COLUMNS:,} different columns, which make no "
                "table. Export them as JSONL."
            )
    return columns, number, has_formula


def write_csv(rows: Rows) -> Iterator[bytes]:
    columns, number, has_formula = _scan(rows)
    plain = {
        name
        for name, column in columns.items()
        if column.is_plain_in_csv(number) and not name.endswith(JSON_SUFFIX) and name != QUOTED
    }
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    header = [header_of(name, is_json=name not in plain) for name in columns]
    csv.writer(buffer, quoting=csv.QUOTE_ALL if _is_odd(header) else csv.QUOTE_MINIMAL).writerow(
        [*header, QUOTED] if has_formula else header
    )

    def lines() -> Iterator[bytes]:
        for row in rows():
            cells, quoted = [], []
            for name in columns:
                cell = _cell(row, name, is_plain=name in plain)
                guarded = str(guard_formula(cell)) if name in plain else cell
                if guarded != cell:
                    quoted.append(name)
                cells.append(guarded)
            if has_formula:
                cells.append(_json(quoted) if quoted else "")
            writer.writerow(cells)
            yield _taken(buffer)

    yield from _in_pieces(part for source in ([_taken(buffer)], lines()) for part in source)


def _cell(row: Cells, name: str, *, is_plain: bool) -> str:
    if name not in row:
        return ""
    value = row[name]
    return value if is_plain and isinstance(value, str) else _json(value)


def _is_odd(header: list[str]) -> bool:
    """Whether the unquoted header could be mistaken for another kind of file."""
    return not all(name[:1].isalnum() for name in header)


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()


def write_parquet(rows: Rows) -> Iterator[bytes]:
    columns, number, _ = _scan(rows)
    described = [column.in_parquet(name, number) for name, column in columns.items()]

    def cells() -> Iterator[list[Any]]:
        for row in rows():
            yield [
                (_json(row[column["name"]]) if column["kind"] == "json" else row[column["name"]])
                if column["name"] in row
                else None
                for column in described
            ]

    yield from table_rows.write(described, cells())
