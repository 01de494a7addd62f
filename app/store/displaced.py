"""Displacement as an SQL expression: the counterpart of chesboard.records.displaced."""

from typing import Any

from sqlalchemy import ColumnElement, and_, case, false

from chesboard.records import STILL_NATS


def displaced_sql(
    preferred_change: ColumnElement[Any], dispreferred_change: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Whether a pair is displaced, from two expressions of type double precision, in nats.

    docs/theory.md, equation 8. True or false, never NULL: NULL and NaN are not displaced, as in
    chesboard.records.displaced. PostgreSQL sorts NaN above every number, so a comparison of a NaN
    margin would be true; `dispreferred_change < preferred_change` holds for no NaN there. It also
    keeps the difference within range: PostgreSQL raises an error where subtraction overflows.
    """
    candidate = and_(preferred_change < -STILL_NATS, dispreferred_change < preferred_change)
    return case(
        (candidate, preferred_change - dispreferred_change > STILL_NATS),
        else_=false(),
    )
