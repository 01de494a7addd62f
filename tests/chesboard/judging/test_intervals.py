import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.judging.intervals import wilson_interval
from chesboard.judging.summary import summarize_verdicts


@pytest.mark.parametrize(
    ("positive", "total", "low", "high"),
    [
        # Newcombe 1998, Table I (method 3: score, no continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(positive, total, low, high):
    assert wilson_interval(positive, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000), st.data(), st.floats(0.01, 0.999))
def test_bounds_solve_the_score_equation(total, data, confidence):
    """A bound p is where |rate - p| is z standard errors of p itself."""
    positive = data.draw(st.integers(0, total))
    low, high = wilson_interval(positive, total, confidence)
    assert 0 <= low <= positive / total <= high <= 1
    for bound in (low, high):
        distance = abs(positive / total - bound)
        error = math.sqrt(bound * (1 - bound) / total)
        # erf: an independent way from a distance to a confidence.
        if 1e-9 < bound < 1 - 1e-9:
            assert math.erf(distance / error / math.sqrt(2)) == pytest.approx(confidence, abs=1e-6)


@pytest.mark.parametrize(
    ("positive", "total", "confidence"), [(0, 0, 0.95), (2, 1, 0.95), (-1, 3, 0.95), (1, 2, 1.0)]
)
def test_what_is_no_proportion_is_refused(positive, total, confidence):
    with pytest.raises(ValueError, match=r"proportion|confidence"):
        wilson_interval(positive, total, confidence)


def test_a_summary_counts_verdicts_and_takes_the_rate_of_those_that_were_had():
    found = summarize_verdicts([True, None, False, True])
    assert (found["answers"], found["positive"]) == (4, 2)
    assert (found["negative"], found["unjudged"]) == (1, 1)
    assert found["rate"] == pytest.approx(2 / 3)
    assert found["interval"] == list(wilson_interval(2, 3))


def test_a_summary_without_verdicts_has_no_rate():
    found = summarize_verdicts([None, None])
    assert found["rate"] is None
    assert found["interval"] is None
