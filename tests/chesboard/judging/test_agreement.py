from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.judging.agreement import Agreement, agreement

VERDICTS = st.sampled_from([True, False, None])
JUDGES = st.lists(st.tuples(VERDICTS, VERDICTS), max_size=40)


def kappa_of(pairs: list[tuple[bool, bool]]) -> float | None:
    """Cohen's formula written out over the labels of each judge."""
    n = len(pairs)
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(a == b for a, b in pairs) / n
    expected = sum(first[label] / n * second[label] / n for label in (True, False))
    return None if expected == 1 else (observed - expected) / (1 - expected)


@given(JUDGES)
def test_counts_and_kappa_against_the_formula(verdicts):
    found = agreement(
        {(i, 0): one for i, (one, _) in enumerate(verdicts)},
        {(i, 0): other for i, (_, other) in enumerate(verdicts)},
    )
    both = [(a, b) for a, b in verdicts if a is not None and b is not None]
    assert found.compared == len(both)
    assert found.unjudged == len(verdicts) - len(both)
    assert found.both_positive == both.count((True, True))
    assert found.first_only == both.count((True, False))
    assert found.second_only == both.count((False, True))
    assert found.both_negative == both.count((False, False))
    if not both:
        assert found.raw is None
        assert found.kappa is None
        return
    assert found.raw == pytest.approx(sum(a == b for a, b in both) / len(both))
    expected = kappa_of(both)
    assert found.kappa == (None if expected is None else pytest.approx(expected))


def test_a_published_table():
    """The worked example of Cohen's kappa: 20 and 15 agreements, 5 and 10 disagreements."""
    found = Agreement(20, 5, 10, 15, unjudged=0)
    assert found.raw == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)


def test_only_answers_of_both_judges_count():
    found = agreement({(0, 0): True, (1, 0): True}, {(1, 0): True, (1, 1): False})
    assert found == Agreement(1, 0, 0, 0, unjudged=0)


def test_two_judges_that_say_the_same_of_everything_have_no_kappa():
    found = agreement({(0, 0): True, (1, 0): True}, {(0, 0): True, (1, 0): True})
    assert found.raw == 1
    assert found.kappa is None
