"""Conditions on lists of values, and on rows of other tables, whose number is that of the data.

`column.in_(values)` makes a parameter of each value, and PostgreSQL allows 65,535 a statement. Here
a list is one parameter, however long. And `column.not_in(query)` compares with every row of the
query where these do not fit PostgreSQL's work_mem (a few 100,000), so that it never ends.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, cast, exists, func, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY


def among(column: Any, values: Collection[Any]) -> ColumnElement[bool]:
    """column = ANY(values)"""
    found: ColumnElement[bool] = column == func.any(_array(column, values))
    return found


def rows_among(columns: Sequence[Any], rows: Collection[Sequence[Any]]) -> ColumnElement[bool]:
    """(columns) IN rows, each row with a value for each column."""
    arrays = [_array(column, [row[index] for row in rows]) for index, column in enumerate(columns)]
    names = [f"column_{index}" for index in range(len(columns))]
    wanted = func.unnest(*arrays).table_valued(*names, name="wanted").render_derived()
    return tuple_(*columns).in_(select(*wanted.c))


def not_among(column: Any, rows: Select[Any]) -> ColumnElement[bool]:
    """column NOT IN (rows), each row with one value, which is not NULL; by a hash of any size."""
    other = rows.subquery("other")
    return ~exists().where(other.c[0] == column)


def _array(like: Any, values: Collection[Any]) -> ColumnElement[Any]:
    return cast(list(values), ARRAY(like.type))
