"""What a pair's scores are, and the offsets that follow."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.doctor.scores import Scores
from chesboard.offsets import offset_of, scores_of, why_without


@pytest.mark.parametrize(
    "meta",
    [{}, {"row": 1}, {"score_chosen": 1}, {"score_chosen": 1, "score_rejected": None}],
)
def test_without_two_numbers_there_are_no_scores(meta: dict[str, object]) -> None:
    assert scores_of(meta) is None
    assert offset_of(None, "log_ratio") == (None, "unscored", None)


SCORE = st.floats(-1e6, 1e6)


@given(SCORE, SCORE)
def test_offsets_are_the_logarithms_where_these_are_defined(high: float, low: float) -> None:
    scores = Scores(high, low, ("a", "b"))
    difference, ratio = (offset_of(scores, kind) for kind in ("log_difference", "log_ratio"))
    if high <= low:
        assert difference.reason == ratio.reason == "not_above"
        return
    assert difference.value == pytest.approx(math.log(high - low))
    if low <= 0:
        assert ratio.reason == "no_ratio"
    else:
        # Not the logarithm of the quotient, which may overflow.
        expected = math.log(high) - math.log(low)
        assert ratio.value == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_difference_of_e_gives_an_offset_of_one() -> None:
    assert offset_of(Scores(math.e, 0, ("a", "b")), "log_difference").value == 1


def test_what_is_missing_is_counted_by_reason() -> None:
    told = why_without({"unscored": 2, "no_ratio": 1, "not_above": 0}, 1500)
    assert told == (
        "3 of 1,500 pairs have no offset (2 without two scores; 1 with a score that is not above "
        "zero, so without a ratio)."
    )
