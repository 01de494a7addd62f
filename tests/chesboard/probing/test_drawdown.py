import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.probing.drawdown import Drawdown, largest_drawdown

VALUES = st.lists(st.none() | st.floats(0, 1) | st.just(math.nan) | st.just(-math.inf), max_size=30)


def test_a_fall_that_was_made_up_for_is_seen() -> None:
    found = largest_drawdown([0, 5, 10, 15, 20], [0.5, 0.75, 0.25, 0.6, 0.9])
    assert found == Drawdown(0.5, 0.75, 5, 0.25, 10)


def test_the_peak_stands_before_the_trough() -> None:
    # The lowest value comes first: max - min would be 0.625.
    found = largest_drawdown([0, 1, 2], [0.125, 0.75, 0.5])
    assert found == Drawdown(0.25, 0.75, 1, 0.5, 2)


@pytest.mark.parametrize("values", [[], [0.5], [0.1, 0.1, 0.2], [None, math.nan]])
def test_what_never_falls_has_none(values: list[float | None]) -> None:
    assert largest_drawdown(range(len(values)), values) is None


@given(VALUES)
def test_it_is_the_largest_of_all_pairs_of_steps(values: list[float | None]) -> None:
    known = [(t, v) for t, v in enumerate(values) if v is not None and math.isfinite(v)]
    falls = [one - later for i, (_, one) in enumerate(known) for _, later in known[i + 1 :]]
    found = largest_drawdown(range(len(values)), values)
    assert (found.size if found else 0) == max([0, *falls])
    if found:
        assert (values[found.peak_step], values[found.trough_step]) == (found.peak, found.trough)
        assert found.size == found.peak - found.trough
        assert found.peak_step < found.trough_step
