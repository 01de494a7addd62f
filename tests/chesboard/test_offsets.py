"""What a pair's scores are, and the offsets that follow."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.doctor.scores import pair_scores
from chesboard.offsets import (
    PairScores,
    columns_with_scores,
    offsets_of,
    scores_of,
    why_without,
)

SHP = {"choice": "labels"}


def read(*rows: dict[str, Any], roles: Any = None, layouts: Any = None) -> PairScores:
    names = sorted({name for row in rows for name in row}, key=lambda name: (len(name), name))
    cells = {name: [row.get(name) for row in rows] for name in columns_with_scores(names, roles)}
    return scores_of(cells, len(rows), roles, layouts or [None] * len(rows))


def both(scores: PairScores) -> list[tuple[float, float] | None]:
    pairs = zip(scores.preferred.tolist(), scores.dispreferred.tolist(), strict=True)
    return [None if math.isnan(high) else (high, low) for high, low in pairs]


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"row": 1},
        {"score_chosen": 1},
        {"score_chosen": 1, "score_rejected": None},
        {"score_chosen": True, "score_rejected": 0},
        {"score_chosen": "high", "score_rejected": "low"},
        {"score_chosen": "inf", "score_rejected": [1]},
    ],
)
def test_without_two_numbers_there_are_no_scores(meta: dict[str, object]) -> None:
    scores = read(meta)
    assert both(scores) == [None]
    assert not scores.columns
    found = offsets_of(scores, "log_ratio")
    assert np.isnan(found.values).all()
    assert found.reasons == {"unscored": 1}


CELL = st.none() | st.floats() | st.sampled_from(["1.5", "-3", "much", "", "1_0", True])
NAMES = [
    "score_chosen",
    "score_rejected",
    "chosenScore",
    "rating_chosen",
    "rating_rejected",
    "note",
]


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, CELL)), max_size=8))
def test_many_rows_are_read_as_each_alone(rows: list[dict[str, Any]]) -> None:
    in_order = sorted(NAMES, key=lambda name: (len(name), name))
    alone = [
        pair_scores({name: row[name] for name in in_order if row[name] is not None})[:1]
        for row in rows
    ]
    scores = read(*rows)
    assert both(scores) == [tuple(found[0][:2]) if found else None for found in alone]
    assert scores.columns.total() == sum(map(len, alone))
    for [found] in filter(None, alone):
        assert scores.columns[found.columns] > 0


def test_in_a_form_with_a_verdict_the_layout_says_which_response_is_preferred() -> None:
    rows = [{"score_A": 8, "score_B": 3}, {"score_A": 3, "score_B": 8}, {"score_A": 3}]
    scores = read(*rows, roles=SHP, layouts=[None, 1, 1])
    assert both(scores) == [(8, 3), (8, 3), None]
    assert scores.columns == {("score_A", "score_B"): 1, ("score_B", "score_A"): 1}
    assert both(read(*rows)) == [None] * 3


def test_where_scores_are_the_verdict_the_higher_one_is_preferred() -> None:
    rows: list[dict[str, Any]] = [
        {"one": 8, "two": "3"},
        {"one": 3, "two": 8},
        {"one": 3, "two": None},
    ]
    scores = read(*rows, roles={"scores": ("one", "two")})
    assert both(scores) == [(8, 3), (8, 3), None]


SCORE = st.floats(-1e6, 1e6)


@given(SCORE, SCORE)
def test_offsets_are_the_logarithms_where_these_are_defined(high: float, low: float) -> None:
    scores = PairScores(np.array([high]), np.array([low]))
    difference, ratio = (offsets_of(scores, kind) for kind in ("log_difference", "log_ratio"))
    if high <= low:
        assert difference.reasons == ratio.reasons == {"not_above": 1}
        return
    assert difference.values[0] == pytest.approx(math.log(high - low))
    if low <= 0:
        assert ratio.reasons == {"no_ratio": 1}
    else:
        # Not the logarithm of the quotient, which may overflow.
        expected = math.log(high) - math.log(low)
        assert ratio.values[0] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_difference_of_e_gives_an_offset_of_one() -> None:
    scores = PairScores(np.array([math.e]), np.array([0.0]))
    assert offsets_of(scores, "log_difference").values[0] == 1


def test_what_is_missing_is_counted_by_reason() -> None:
    told = why_without({"unscored": 2, "no_ratio": 1, "not_above": 0}, 1500)
    assert told == (
        "3 of 1,500 pairs have no offset (2 without two scores; 1 with a score that is not above "
        "zero, so without a ratio)."
    )
