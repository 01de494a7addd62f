import math
from collections.abc import Sequence
from statistics import StatisticsError, correlation

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.probing.ranks import spearman, spearman_of, spearman_of_each

# Few values, so that many are equal; large and small ones, so that they are of any size.
VALUES = st.sampled_from([-math.inf, -1e300, -2.5, -0.0, 0.0, 1e-300, 1.0, 2.0]) | st.floats()


def by_definition(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """The rank of a value: how many are smaller, and the middle of those that equal it."""

    def ranks(values: Sequence[float]) -> list[float]:
        return [
            sum(other < value for other in values)
            + (1 + sum(other == value for other in values)) / 2
            for value in values
        ]

    try:
        return correlation(ranks(xs), ranks(ys))
    except StatisticsError:
        return None


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


@given(st.lists(st.tuples(VALUES, VALUES), max_size=30))
def test_it_is_the_correlation_of_the_ranks(both: list[tuple[float, float]]) -> None:
    kept = [(x, y) for x, y in both if math.isfinite(x) and math.isfinite(y)]
    expected = by_definition([x for x, _ in kept], [y for _, y in kept])
    found, compared = spearman_of([x for x, _ in both], [y for _, y in both])
    assert compared == len(kept)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


@given(st.lists(st.tuples(VALUES | st.none(), VALUES | st.none(), VALUES | st.none()), max_size=12))
def test_gaps_are_left_out_of_each_column_by_itself(
    rows: list[tuple[float | None, float | None, float | None]],
) -> None:
    a, b, ys = ([row[k] for row in rows] for k in range(3))
    for column, found in zip((a, b), spearman_of_each([a, b], ys), strict=True):
        kept = [
            (x, y)
            for x, y in zip(column, ys, strict=True)
            if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)
        ]
        assert found == (spearman([x for x, _ in kept], [y for _, y in kept]), len(kept))


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="1 values cannot be ranked against 2"):
        spearman_of([1.0], [1.0, 2.0])


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30, unique=True))
def test_spearman_looks_at_the_order_alone(values: list[float]) -> None:
    cubes = [value**3 for value in values]
    if len(set(cubes)) == len(cubes):
        assert spearman(values, cubes) == pytest.approx(1)
        assert spearman(values, [-cube for cube in cubes]) == pytest.approx(-1)
