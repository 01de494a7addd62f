"""Curves of remedies: exact counts at each point, and the smallest values that are enough."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.forecast.curves import CURVE_POINTS, remedy_curve
from chesboard.configs import ObjectiveConfig

SMALLEST = st.lists(st.floats(1e-12, 1e6), max_size=60)


@given(SMALLEST, st.integers(0, 600))
def test_so_many_fall_at_each_point(smallest: list[float], others: int) -> None:
    pairs = len(smallest) + others
    found = remedy_curve("sft_coef", ObjectiveConfig(), smallest, pairs)

    def falling(value: float) -> int:
        return sum(one > value for one in smallest)

    assert [point.falling for point in found.curve] == [
        falling(point.value) for point in found.curve
    ]
    assert found.recommended is not None
    assert found.prevents_all is not None
    values = [point.value for point in found.curve]
    assert values == sorted(set(values))
    assert {0.0, found.recommended, found.prevents_all} <= set(values)
    assert falling(found.prevents_all) == 0
    assert falling(found.recommended) <= pairs / 20
    # Not more than the rounding to three digits above the smallest that would do.
    assert not found.recommended or falling(0.98 * found.recommended) > pairs / 20 - 1


@given(st.lists(st.floats(1e-9, 0.9999), max_size=60), st.integers(0, 600))
def test_a_remedy_that_gets_stronger_downwards_is_its_mirror_image(
    largest: list[float], others: int
) -> None:
    pairs = len(largest) + others
    found = remedy_curve("dpo_shift_lambda", ObjectiveConfig(), largest, pairs)

    def falling(value: float) -> int:
        return sum(one < value for one in largest)

    assert found.objective == "dpo_shift"
    values = [point.value for point in found.curve]
    assert values[0] == 1
    assert values == sorted(set(values), reverse=True)
    assert [point.falling for point in found.curve] == [falling(value) for value in values]
    assert found.recommended in values
    assert found.prevents_all in values
    assert falling(found.prevents_all or 0) == 0
    assert falling(found.recommended or 0) <= pairs / 20
    assert found.recommended == 1 or falling(1.02 * (found.recommended or 0)) > pairs / 20 - 1


def test_a_shift_that_leaves_nothing_of_the_push_is_not_recommended() -> None:
    found = remedy_curve("dpo_shift_lambda", ObjectiveConfig(), [0.5, 0.0], 2)
    assert (found.recommended, found.prevents_all) == (None, None)
    assert [(point.value, point.falling) for point in found.curve] == [(1.0, 2), (0.5, 1)]


def test_many_pairs_are_drawn_by_quantiles() -> None:
    smallest = [number / 1000 for number in range(1, 50_001)]
    curve = remedy_curve("sft_coef", ObjectiveConfig(), smallest, 100_000).curve
    assert CURVE_POINTS <= len(curve) <= CURVE_POINTS + 4
    steps = [a.falling - b.falling for a, b in pairwise(curve)]
    assert max(steps) <= 2 * 50_000 / CURVE_POINTS  # no stop of a slider jumps far


def test_a_coefficient_beyond_numbers_is_not_recommended() -> None:
    found = remedy_curve("sft_coef", ObjectiveConfig(), [0.5, float("inf")], 2)
    assert (found.recommended, found.prevents_all) == (None, None)
    assert [(point.value, point.falling) for point in found.curve] == [(0.0, 2), (0.5, 1)]
