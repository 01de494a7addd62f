"""Rows of downloads: CSV with a header, or JSON lines."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from app.core.csv import csv_line

RowFormat = Literal["csv", "jsonl"]


def export_rows(
    names: Sequence[str], parts: Iterable[Iterable[Mapping[str, Any]]], format: RowFormat
) -> Iterator[str]:
    """One line a row, a part at a time. names: the keys of each row, in the order of the columns.

    In CSV null is an empty field; lists, objects, true and false are written as JSON has them.
    """
    if format == "csv":
        yield csv_line(list(names))
    for part in parts:
        yield "".join(_line(names, row, format) for row in part)


def _line(names: Sequence[str], row: Mapping[str, Any], format: RowFormat) -> str:
    if format == "csv":
        return csv_line([_cell(row[name]) for name in names])
    return json.dumps({name: row[name] for name in names}, ensure_ascii=False) + "\n"


def _cell(value: object) -> object:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else value
