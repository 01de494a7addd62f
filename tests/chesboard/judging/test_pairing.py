"""Pairs of judged answers to one prompt."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.judging.pairing import AnswerPair, Judged, pair_answers


def answers(*judged):
    """From (verdict, score) or a verdict; texts differ."""
    found = [one if isinstance(one, tuple) else (one, None) for one in judged]
    return [Judged(k, f"text {k}", verdict, score) for k, (verdict, score) in enumerate(found)]


def samples(made):
    assert isinstance(made, AnswerPair)
    return made.preferred.sample, made.dispreferred.sample


def test_of_two_verdicts_the_positive_answer_is_preferred():
    assert samples(pair_answers(0, answers(False, True))) == (1, 0)
    assert samples(pair_answers(0, answers(True, False))) == (0, 1)
    assert samples(pair_answers(0, answers(True, False), prefer="negative")) == (1, 0)


def test_of_several_answers_the_first_of_each_verdict_counts():
    made = pair_answers(0, answers(None, False, False, True, True))
    assert samples(made) == (3, 1)


@pytest.mark.parametrize(("verdict", "kind"), [(True, "both_positive"), (False, "both_negative")])
def test_ties_are_drawn_by_seed_and_prompt(verdict, kind):
    tied = answers(verdict, verdict)
    drawn = [pair_answers(prompt, tied, seed=7) for prompt in range(200)]
    assert all(isinstance(made, AnswerPair) and made.kind == kind for made in drawn)
    counts = Counter(map(samples, drawn))
    assert set(counts) == {(0, 1), (1, 0)}
    assert 60 < counts[0, 1] < 140
    assert drawn == [pair_answers(prompt, tied, seed=7) for prompt in range(200)]
    assert drawn != [pair_answers(prompt, tied, seed=8) for prompt in range(200)]


def test_ties_may_be_skipped():
    assert pair_answers(0, answers(True, True), ties="skip") == "skipped"
    assert samples(pair_answers(0, answers(True, False), ties="skip")) == (0, 1)


def test_ties_by_score_take_the_highest_and_the_lowest():
    tied = answers((True, 0.6), (True, 0.9), (True, 0.7))
    assert samples(pair_answers(0, tied, ties="score")) == (1, 0)
    assert samples(pair_answers(0, tied, ties="score", prefer="negative")) == (0, 1)
    assert pair_answers(0, answers((False, 1.0), (False, 1.0)), ties="score") == "tied"
    assert pair_answers(0, answers(True, True), ties="score") == "tied"


def test_a_reward_models_scores_make_pairs_without_verdicts():
    made = pair_answers(0, answers((None, -1.0), (None, 2.0)), ties="score")
    assert samples(made) == (1, 0)
    assert isinstance(made, AnswerPair)
    assert made.kind == "by_score"
    assert pair_answers(0, answers((None, -1.0), (None, 2.0))) == "unjudged"


def test_prompts_that_make_no_pair_say_why():
    assert pair_answers(0, answers(True)) == "single"
    assert pair_answers(0, answers(True, None)) == "unjudged"
    assert pair_answers(0, answers(None, None), ties="score") == "unjudged"
    same = [Judged(0, "No", True, None), Judged(1, "No", False, None)]
    assert pair_answers(0, same) == "same_text"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([True, False, None]),
            st.none() | st.floats(-5, 5, allow_nan=False),
            st.sampled_from("abc"),
        ),
        max_size=6,
    ),
    st.sampled_from(["random", "skip", "score"]),
    st.sampled_from(["positive", "negative"]),
)
def test_whatever_the_answers_a_pair_keeps_the_order(judged, ties, prefer):
    found = [Judged(k, text, verdict, score) for k, (verdict, score, text) in enumerate(judged)]
    made = pair_answers(3, found, ties=ties, prefer=prefer)
    if not isinstance(made, AnswerPair):
        return
    best, worst = made.preferred, made.dispreferred
    assert best.text != worst.text
    assert best in found
    assert worst in found
    if made.kind == "different":
        assert (best.verdict, worst.verdict) == (
            (True, False) if prefer == "positive" else (False, True)
        )
        return
    assert (
        best.verdict
        == worst.verdict
        == {"both_positive": True, "both_negative": False}.get(made.kind)
    )
    if ties == "score":
        assert best.score is not None
        assert worst.score is not None
        difference = best.score - worst.score
        assert difference > 0 if prefer == "positive" else difference < 0
