"""Columns of a query as arrays: PostgreSQL packs each into one byte string, in its binary format.

500,000 rows of ten numbers take well under a second, where rows, or arrays as text, take several.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Double, Integer, LargeBinary, Select, cast, func, literal, select
from sqlalchemy.orm import Session

from app.core.database import BINARY

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def read_columns(
    session: Session, query: Select[*tuple[Any, ...]]
) -> tuple[Integers, list[Floats]]:
    """The columns of a query: one of integers without NULL, then any of floats; NULL becomes NaN.

    Rows come by ascending integer, whatever the order of the query's: PostgreSQL is faster where
    it may read them in any.
    """
    first, *others = query.order_by(None).subquery().c
    packed, *others_packed = session.execute(
        select(
            _packed(func.int4send(cast(first, Integer))),
            *(
                _packed(func.float8send(func.coalesce(cast(column, Double), math.nan)))
                for column in others
            ),
        ).execution_options(**{BINARY: True})
    ).one()
    numbers = np.frombuffer(packed or b"", ">i4").astype(np.int64)
    columns = [np.frombuffer(one or b"", ">f8").astype(np.float64) for one in others_packed]
    if np.any(numbers[1:] < numbers[:-1]):
        order = np.argsort(numbers)
        numbers, columns = numbers[order], [column[order] for column in columns]
    return numbers, columns


def read_arrays(session: Session, query: Select[*tuple[Any, ...]]) -> list[Integers] | None:
    """The columns of a query's only row, arrays of integers without NULL; None without a row."""
    sent = [func.array_send(column, type_=LargeBinary) for column in query.selected_columns]
    query = query.with_only_columns(*sent).execution_options(**{BINARY: True})
    found = session.execute(query).one_or_none()
    # After a header of five integers each element stands behind its length.
    if found is None:
        return None
    return [np.frombuffer(one[20:], ">i4")[1::2].astype(np.int64) for one in found]


def _packed(column: Any) -> Any:
    return func.string_agg(column, literal(b"", LargeBinary), type_=LargeBinary)
