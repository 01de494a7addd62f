"""NaN and infinity become null."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.nonfinite import finite_or_none, nonfinite_to_none


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.5, 1.5), (0.0, 0.0), (None, None), (math.nan, None), (math.inf, None), (-math.inf, None)],
)
def test_a_number(value: float | None, expected: float | None) -> None:
    assert finite_or_none(value) == expected


def test_nested_values() -> None:
    value = {"a": [1.0, math.nan], "b": (math.inf, "x", None, 3), "c": {"d": -math.inf}, "e": True}
    assert nonfinite_to_none(value) == {
        "a": [1.0, None],
        "b": [None, "x", None, 3],
        "c": {"d": None},
        "e": True,
    }


def test_finite_numbers_whose_sum_overflows_stay() -> None:
    assert nonfinite_to_none([1e308, 1e308]) == [1e308, 1e308]


@given(st.recursive(st.none() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_whatever_it_is_json_can_encode_it(value: object) -> None:
    json.dumps(nonfinite_to_none(value), allow_nan=False)
