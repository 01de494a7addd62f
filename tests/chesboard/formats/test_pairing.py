"""The rules that make pairs of rated responses, against their definitions."""

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.formats.errors import FormatError
from chesboard.formats.pairing import Pairing, pairs_of, parse_pairing

TENTHS = st.integers(0, 100).map(lambda tenths: tenths / 10)
RATINGS = st.lists(TENTHS | st.floats(-1e9, 1e9), max_size=8)


def exact(rating: float) -> Fraction:
    return Fraction(str(rating))


@given(RATINGS)
def test_all_is_every_ordered_two_of_which_one_is_rated_higher(ratings: list[float]) -> None:
    numbers = range(len(ratings))
    expected = [(i, j) for i, j in product(numbers, numbers) if ratings[i] > ratings[j]]
    assert pairs_of(ratings, Pairing("all")) == expected


@given(RATINGS)
def test_best_and_worst_is_one_pair_or_none_where_all_tie(ratings: list[float]) -> None:
    pairs = pairs_of(ratings, Pairing("best_worst"))
    assert len(pairs) == (len(set(ratings)) > 1)
    for best, worst in pairs:
        assert all(rating <= ratings[best] for rating in ratings)
        assert all(rating >= ratings[worst] for rating in ratings)
        # Of equals the first.
        assert max(ratings) not in ratings[:best]
        assert min(ratings) not in ratings[:worst]


@given(RATINGS)
def test_best_against_the_rest_is_one_pair_for_each_rated_lower(ratings: list[float]) -> None:
    pairs = pairs_of(ratings, Pairing("best_rest"))
    top = max(ratings, default=0)
    assert [worse for _, worse in pairs] == [i for i, r in enumerate(ratings) if r < top]
    assert {best for best, _ in pairs} <= {ratings.index(top) if ratings else 0}


@given(RATINGS, TENTHS.filter(bool))
def test_gap_keeps_the_pairs_that_differ_enough_as_written(
    ratings: list[float], gap: float
) -> None:
    expected = [
        (i, j)
        for i, j in pairs_of(ratings, Pairing("all"))
        if exact(ratings[i]) - exact(ratings[j]) >= exact(gap)
    ]
    assert pairs_of(ratings, Pairing("gap", gap)) == expected


def test_gap_is_not_missed_by_binary_rounding() -> None:
    assert 4.1 - 3.1 < 1
    assert pairs_of([4.1, 3.1], Pairing("gap", 1.0)) == [(0, 1)]


@pytest.mark.parametrize("text", ["best_worst", "best_rest", "all", "gap:1.5"])
def test_rule_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_pairing(f" {text} ")) == text


@pytest.mark.parametrize("text", [None, "", " "])
def test_no_rule_is_the_default(text: str | None) -> None:
    assert parse_pairing(text) is None


@pytest.mark.parametrize("text", ["best", "gap", "gap:", "gap:0", "gap:-1", "gap:nan", "all:2"])
def test_rule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="pairing") as caught:
        parse_pairing(text)
    assert caught.value.items[0]["field"] == "pairing"
