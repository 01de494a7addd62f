"""Fewer points, and no extreme lost."""

import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.core.downsampling import pick, pick_cloud, smallest_of
from app.core.nonfinite import nonfinite_to_none

NAN = float("nan")
values = st.lists(st.floats(), min_size=1, max_size=300)


def test_what_fits_is_kept_whole() -> None:
    assert pick(3, [[1.0, 2.0, 3.0]], 3) == [0, 1, 2]
    assert pick(0, [], 10) == []


def test_a_spike_of_one_step_survives_in_every_curve() -> None:
    flat, up, down = [0.0] * 20_000, [0.0] * 20_000, [0.0] * 20_000
    up[12_345], down[777] = 1.0, -1.0
    kept = pick(20_000, [flat, up, down], 1000)
    assert {0, 777, 12_345, 19_999} <= set(kept)
    assert 900 <= len(kept) <= 1000


def test_the_rest_of_the_allowance_is_spread_evenly() -> None:
    kept = pick(10_000, [[float(n) for n in range(10_000)]], 500)
    widest = max(b - a for a, b in pairwise(kept))
    assert widest <= 10_000 / 200


def test_a_gap_survives() -> None:
    series = [1.0] * 1000
    series[503] = NAN
    assert 503 in pick(1000, [series], 50)


def test_a_curve_without_values_takes_no_room() -> None:
    spiky = [float(n % 7) for n in range(1000)]
    assert pick(1000, [spiky, [NAN] * 1000], 100) == pick(1000, [spiky], 100)


@given(st.lists(values, min_size=1, max_size=4), st.integers(2, 100))
def test_first_last_and_all_extremes_are_kept_whatever_the_numbers(
    series: list[list[float]], points: int
) -> None:
    count = min(map(len, series))
    series = [one[:count] for one in series]
    kept = pick(count, series, points)
    assert kept == sorted(set(kept))
    assert {0, count - 1} <= set(kept) <= set(range(count))
    # Half as many again where every bucket has a gap besides its extremes.
    assert len(kept) <= max(points + points // 2, 2 + 3 * len(series))
    for one in series:
        finite = [value for value in one if math.isfinite(value)]
        chosen = [one[place] for place in kept]
        if finite:
            assert min(finite) in chosen
            assert max(finite) in chosen


@given(st.lists(values, min_size=1, max_size=3), st.integers(2, 100))
def test_a_cloud_keeps_the_extremes_of_every_series(series: list[list[float]], points: int) -> None:
    count = min(map(len, series))
    series = [one[:count] for one in series]
    kept = pick_cloud(count, series, points)
    assert kept == sorted(set(kept))
    assert set(kept) <= set(range(count))
    assert len(kept) == count if count <= points else len(kept) <= max(points, 2 * len(series))
    for one in series:
        finite = [value for value in one if math.isfinite(value)]
        chosen = [one[place] for place in kept]
        if finite:
            assert {min(finite), max(finite)} <= set(chosen)


def test_a_cloud_is_spread_evenly_but_for_a_few_at_its_rim() -> None:
    values = np.random.default_rng(3).normal(size=100_000)
    kept = pick_cloud(100_000, [values, -values], 1000)
    assert 950 <= len(kept) <= 1000
    assert max(b - a for a, b in pairwise(kept)) <= 100_000 / 950 + 1
    order = np.argsort(values)
    assert set(order[:5].tolist()) | set(order[-5:].tolist()) <= set(kept)
    # Half of the normal distribution's values are within 0.674 of its mean.
    assert 0.46 < np.mean(np.abs(values[kept]) < 0.674) < 0.53


@given(st.lists(st.floats(-3, 3) | st.sampled_from([0.0, 1.0]), max_size=40), st.integers(1, 50))
def test_of_equal_values_the_first_are_the_smallest(values: list[float], count: int) -> None:
    expected = sorted(range(len(values)), key=lambda place: (values[place], place))[:count]
    assert smallest_of(np.array(values), count).tolist() == expected


json_values = st.recursive(
    st.one_of(st.floats(), st.none(), st.integers(), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_gaps_replaces_exactly_what_json_has_no_word_for(value: object) -> None:
    def naive(value: object) -> object:
        match value:
            case float():
                return value if math.isfinite(value) else None
            case list():
                return [naive(part) for part in value]
            case dict():
                return {name: naive(part) for name, part in value.items()}
        return value

    assert nonfinite_to_none(value) == naive(value)
