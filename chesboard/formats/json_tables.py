"""Tables in one JSON value: lists of rows, columns, pandas' orients, answers of the dataset viewer.

{"data": [row, …]}, {"train": [row, …], "test": […]}    lists of rows, also a level deeper
{"prompt": [cell, …], "chosen": [cell, …]}              columns (datasets' to_dict, pandas' list)
{"columns": [name, …], "index": […], "data": [[cell, …], …]}   pandas: split, tight
{"prompt": {"0": cell, …}, "chosen": {…}}               pandas: columns
{"0": {"prompt": cell, …}, "1": {…}}                    pandas: index
{"schema": {…}, "data": [row, …]}                       pandas: table
{"features": […], "rows": [{"row_idx", "row", "truncated_cells"}, …]}   Hugging Face's viewer
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chesboard.formats.errors import FormatError
from chesboard.formats.json_rows import as_row
from chesboard.formats.known_forms import recognize
from chesboard.formats.members import Member
from chesboard.formats.rows import RowError, SourceRow
from chesboard.formats.wording import counted

Row = SourceRow | RowError

MAX_DEPTH = 3
_SPLIT = {"columns", "data"}
_SPLIT_OPTIONAL = {"index", "index_names", "column_names"}
_VIEWER_ROW = {"row_idx", "row", "truncated_cells"}
_MESSAGE = ({"role", "content"}, {"from", "value"})


@dataclass(frozen=True, slots=True)
class Table(Member):
    """`items`: its rows as JSON values; `warnings`: what is doubtful about it."""

    items: Sequence[Any]
    warnings: tuple[str, ...] = ()

    def rows(self) -> Iterator[Row]:
        return unwrap(as_row(row, item) for row, item in enumerate(self.items, 1))

    def has_known_columns(self) -> bool:
        """Whether its first row has the columns of a known form."""
        first = next(self.rows(), None)
        return isinstance(first, SourceRow) and recognize(first.columns) is not None


def find_tables(value: dict[str, Any], name: str = "", depth: int = 0) -> list[Table]:
    """The tables in an object, by the names of the keys that lead to them.

    Raises:
        FormatError: columns of different lengths.
    """
    for find in (_viewer, _split, _pandas_table, _columns, _columns_by_index):
        if (items := find(value)) is not None:
            return [Table(name, counted(len(items), "row"), items, _viewer_warnings(value))]
    found: list[Table] = []
    for key, inner in value.items():
        path = f"{name}.{key}" if name else key
        if _is_list_of_rows(inner):
            found.append(Table(path, counted(len(inner), "row"), inner))
        elif isinstance(inner, dict) and depth < MAX_DEPTH and not is_row(inner):
            found += find_tables(inner, path, depth + 1)
    return found


def is_row(value: dict[str, Any]) -> bool:
    """Whether an object is a row of a known form, rather than a table of its columns."""
    return recognize(value) is not None and _columns(value) is None and not _are_maps(value)


def is_columnar(value: dict[str, Any]) -> bool:
    """Whether an object holds a table by its columns, so that it is no row."""
    return any(find(value) is not None for find in (_viewer, _split, _columns, _columns_by_index))


def unwrap(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows as they are, those of the dataset viewer taken out of their frame."""
    for row in rows:
        is_framed = isinstance(row, SourceRow) and row.columns.keys() == _VIEWER_ROW
        yield _unframed(row) if isinstance(row, SourceRow) and is_framed else row


def _unframed(source: SourceRow) -> Row:
    inner, cut = source.columns["row"], source.columns["truncated_cells"]
    if not isinstance(inner, dict):
        return as_row(source.row, inner)
    if cut:
        names = ", ".join(map(str, cut)) if isinstance(cut, list) else str(cut)
        message = f"was cut off by the dataset viewer ({names}). Download the data itself"
        field = str(cut[0]) if isinstance(cut, list) else None
        return RowError(source.row, message, field, reason="unusable")
    return SourceRow(source.row, inner)


def _is_list_of_rows(value: Any) -> bool:
    """Whether a value is a list of objects that are no chat messages."""
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    return isinstance(first, dict) and not _is_message(first)


def _is_message(value: dict[str, Any]) -> bool:
    return any(names <= value.keys() for names in _MESSAGE)


def _viewer(value: dict[str, Any]) -> list[Any] | None:
    rows = value.get("rows")
    if "features" not in value or not isinstance(rows, list):
        return None
    is_framed = all(isinstance(row, dict) and row.keys() == _VIEWER_ROW for row in rows)
    return rows if is_framed else None


def _viewer_warnings(value: dict[str, Any]) -> tuple[str, ...]:
    if _viewer(value) is None:
        return ()
    rows, total = len(value["rows"]), value.get("num_rows_total")
    if isinstance(total, int) and total > rows:
        return (
            f"The file is one page of the dataset viewer: it holds {rows:,} of {total:,} rows.",
        )
    if value.get("partial") or value.get("truncated"):
        return ("The file is a page of the dataset viewer, which shows only a part of the data.",)
    return ()


def _split(value: dict[str, Any]) -> list[Any] | None:
    if not value.keys() >= _SPLIT or value.keys() - _SPLIT - _SPLIT_OPTIONAL:
        return None
    columns, data = value["columns"], value["data"]
    if not isinstance(columns, list) or not isinstance(data, list):
        return None
    if not all(isinstance(name, str) for name in columns):
        return None
    if len(set(columns)) < len(columns):
        raise FormatError("The table (pandas' orient='split') names a column twice.")
    return [_named(columns, cells) for cells in data]


def _named(columns: list[str], cells: Any) -> Any:
    """A row of cells by the names of the columns, or as it is where it has not as many."""
    is_row = isinstance(cells, list) and len(cells) == len(columns)
    return dict(zip(columns, cells, strict=True)) if is_row else cells


def _pandas_table(value: dict[str, Any]) -> list[Any] | None:
    schema, data = value.get("schema"), value.get("data")
    is_table = value.keys() == {"schema", "data"} and isinstance(schema, dict)
    return data if is_table and isinstance(data, list) else None


def _columns(value: dict[str, Any]) -> list[Any] | None:
    """The rows of {"prompt": [cell, …], …}: lists only, at least one of them not of objects."""
    columns = list(value.values())
    if len(columns) < 2 or not all(isinstance(column, list) for column in columns):
        return None
    firsts = [column[0] for column in columns if column]
    if not firsts or all(isinstance(first, dict) for first in firsts):
        return None
    if any(isinstance(first, dict) and _is_message(first) for first in firsts):
        return None
    if recognize(value) is None and any(isinstance(first, dict) for first in firsts):
        return None
    lengths = {name: len(column) for name, column in value.items()}
    if len(set(lengths.values())) > 1:
        if recognize(value) is None:
            return None
        told = ", ".join(f"{name} {length:,}" for name, length in list(lengths.items())[:8])
        raise FormatError(f"The file holds its table by columns, of different lengths: {told}.")
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _are_maps(value: dict[str, Any]) -> bool:
    """Whether all values are objects with the same keys, other than those of messages."""
    inner = list(value.values())
    if not inner or not all(isinstance(item, dict) and item for item in inner):
        return False
    keys = inner[0].keys()
    return all(item.keys() == keys for item in inner) and keys not in _MESSAGE


def _columns_by_index(value: dict[str, Any]) -> list[Any] | None:
    """The rows of {"prompt": {"0": cell, …}, …} and of {"0": {"prompt": cell, …}, …}."""
    if _is_by_index(value):
        return list(value.values())
    if not _are_maps(value):
        return None
    keys = next(iter(value.values())).keys()
    if recognize(value) is None and not all(map(str.isdecimal, keys)):
        return None
    return [{name: column[key] for name, column in value.items()} for key in keys]


def _is_by_index(value: dict[str, Any]) -> bool:
    rows = list(value.values())
    if not rows or not all(isinstance(row, dict) and row for row in rows):
        return False
    if all(map(str.isdecimal, value)):
        return not all(map(str.isdecimal, rows[0]))
    # An index of names: every row has the columns of a known form, and cells instead of lists.
    return recognize(value) is None and all(is_row(row) for row in rows)
