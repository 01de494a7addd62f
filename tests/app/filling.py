"""Rows for every table of a database, whatever its schema: made from what the database says.

So a table or column that is added later is filled in the tests of migrations and backups too.
"""

import re
from typing import Any

from sqlalchemy import Connection, MetaData, Table, insert, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CheckConstraint

ROWS = 3
NAMED = re.compile(r"'((?:[^']|'')+)'")


def fill(connection: Connection) -> None:
    """Put ROWS rows into each table. Needs empty ones."""
    made: dict[str, list[dict[str, Any]]] = {}
    for table in _reflected(connection).sorted_tables:
        if table.name != "alembic_version":
            made[table.name] = [_row(table, number, made) for number in range(ROWS)]
            connection.execute(insert(table), made[table.name])
            if "id" in table.c:
                connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {ROWS})"
                )


def empty(connection: Connection) -> None:
    names = [f'"{table.name}"' for table in _reflected(connection).sorted_tables]
    named = ", ".join(name for name in names if name != '"alembic_version"')
    connection.exec_driver_sql(f"TRUNCATE {named} CASCADE")


def content(connection: Connection) -> dict[str, list[str]]:
    """Every row of every table, as PostgreSQL writes it, in an order of its own."""
    return {
        table.name: sorted(
            connection.exec_driver_sql(f'SELECT "{table.name}"::text FROM "{table.name}"').scalars()
        )
        for table in _reflected(connection).sorted_tables
    }


def _reflected(connection: Connection) -> MetaData:
    metadata = MetaData()
    metadata.reflect(connection)
    return metadata


def _row(table: Table, number: int, made: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    allowed = _allowed(table)
    row = {
        column.name: allowed[column.name][number % len(allowed[column.name])]
        if column.name in allowed
        else _value(column.type, number)
        for column in table.columns
    }
    for constraint in table.foreign_key_constraints:
        target = made.get(constraint.referred_table.name)
        if target is None:  # the table itself
            row |= dict.fromkeys(constraint.column_keys)
            continue
        for key in constraint.elements:
            row[key.parent.name] = target[number][key.column.name]
    return row


def _allowed(table: Table) -> dict[str, list[str]]:
    """The words that a check allows for a column."""
    checks = [c for c in table.constraints if isinstance(c, CheckConstraint)]
    return {
        column.name: words
        for column in table.columns
        for check in checks
        if re.search(rf"\b{column.name}\b", NAMED.sub("", str(check.sqltext)))
        and (words := NAMED.findall(str(check.sqltext)))
    }


def _value(kind: types.TypeEngine[Any], number: int) -> Any:
    match kind:
        case types.Boolean():
            return bool(number % 2)
        case types.Integer():
            return number + 1
        case types.Float() | types.Numeric():
            return [0.5, float("nan"), float("-inf")][number]
        case types.DateTime():
            return f"2026-01-0{number + 1} 12:00:00+00"
        case postgresql.ARRAY():
            return [_value(kind.item_type, number)] * number
        case postgresql.JSONB() | types.JSON():
            return [{}, {"ü": [1, None, "a\\b"]}, [1]][number] if number < 2 else {}
        case _:
            return [f"text {number}", "tab\tline\nback\\slash \N{SNOWMAN}", "\\N"][number]
