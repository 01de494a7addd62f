import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.probing.ranks import average_ranks, spearman


@pytest.mark.parametrize(
    ("predicted", "actual", "expected"),
    [
        ([1.0, 2.0, 3.0], [10.0, 20.0, 21.0], 1.0),
        ([1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], -1.0),
        ([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0], 0.8),
        # ranks 1.5, 1.5, 3 against 1, 2, 3: covariance 1.5, variances 1.5 and 2
        ([5.0, 5.0, 9.0], [1.0, 2.0, 3.0], 1.5 / math.sqrt(1.5 * 2)),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], None),
        ([1.0, 2.0], [1.0, math.nan], None),
        ([1.0], [1.0], None),
        ([], [], None),
    ],
)
def test_rank_agreement_is_spearmans_with_ties_averaged(predicted, actual, expected):
    agreement = spearman(predicted, actual)
    assert agreement == (None if expected is None else pytest.approx(expected))


def test_equal_values_share_their_rank() -> None:
    assert average_ranks([3.0, 1.0, 3.0, 2.0, 3.0]) == [4, 1, 4, 2, 4]
    assert spearman([1.0, 2.0], [5.0, 5.0]) is None
    assert spearman([], []) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30, unique=True))
def test_spearman_looks_at_the_order_alone(values: list[float]) -> None:
    cubes = [value**3 for value in values]
    if len(set(cubes)) == len(cubes):
        assert spearman(values, cubes) == pytest.approx(1)
        assert spearman(values, [-cube for cube in cubes]) == pytest.approx(-1)
