"""Columns that PostgreSQL packs, against the rows that it gives."""

import math

import numpy as np
import pytest
from sqlalchemy import ARRAY, Double, Integer, cast, column, literal, select, values
from sqlalchemy.orm import Session

from app.core.packed import read_arrays, read_columns

ROWS = [
    (7, 1.5, None),
    (-3, -math.inf, 0.1),
    (2_000_000_000, math.nan, 5e-324),
    (0, -0.0, 1.7976931348623157e308),
]
TABLE = values(
    column("number", Integer), column("one", Double), column("other", Double), name="rows"
).data(ROWS)


def test_columns_hold_the_rows_by_ascending_number(session: Session) -> None:
    numbers, columns = read_columns(session, select(TABLE))
    expected = sorted(ROWS)
    assert numbers.tolist() == [row[0] for row in expected]
    for index, found in enumerate(columns, 1):
        wanted = [math.nan if row[index] is None else row[index] for row in expected]
        np.testing.assert_array_equal(found, np.array(wanted, np.float64))
        assert found.flags.writeable
    assert math.copysign(1, columns[0][1]) == -1


def test_without_rows_columns_are_empty(session: Session) -> None:
    numbers, columns = read_columns(session, select(TABLE).where(TABLE.c.number == 1))
    assert [len(found) for found in (numbers, *columns)] == [0, 0, 0]


@pytest.mark.parametrize("numbers", [[], [5], [3, -1, 2_000_000_000]])
def test_arrays_of_integers_are_read_whole(session: Session, numbers: list[int]) -> None:
    one = cast(literal(numbers, ARRAY(Integer)), ARRAY(Integer)).label("one")
    found = read_arrays(session, select(one, one.label("again")))
    assert found is not None
    assert [array.tolist() for array in found] == [numbers, numbers]
    assert read_arrays(session, select(one).where(literal(1) == 2)) is None
