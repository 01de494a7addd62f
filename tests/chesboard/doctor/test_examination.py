"""What only the whole dataset shows: conventions, hints, repeated and conflicting prompts."""

from itertools import permutations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chesboard.doctor.examination import Examination
from chesboard.doctor.relations import MIN_REUSED

REFUSAL = "I'm sorry, but I can't help with that."
ANSWER = "The ferry leaves the island at nine and comes back in the evening, number {}."
CUT = "The ferry leaves the island at nine and comes back in the evening, and then it"


def examine(*pairs: tuple[str, str, str], **columns: Any) -> Examination:
    examination = Examination()
    for prompt, preferred, dispreferred in pairs:
        hashes = hash(prompt), hash(preferred), hash(dispreferred)
        examination.see(prompt, preferred, dispreferred, {"row": 1, **columns}, hashes)
    return examination


def found(examination: Examination, kind: str) -> list[tuple[int, int | None]]:
    return [(one.pair, one.other) for one in examination.issues() if one.kind == kind]


def answers(number: int) -> list[tuple[str, str, str]]:
    return [(f"Question {i}", ANSWER.format(i), f"At ten, {i}.") for i in range(number)]


def test_a_response_without_an_end_stands_out_where_the_others_have_one() -> None:
    cut = ("Where?", CUT, "There.")
    assert found(examine(*answers(30), cut), "no_end") == [(30, None)]
    # Where half of the responses lack it, the dataset is written so.
    assert found(examine(*[cut, *answers(1)] * 20), "no_end") == []
    # Too few to tell.
    assert found(examine(*answers(5), cut), "no_end") == []


def test_other_ends_than_a_stop() -> None:
    ends = [
        "in the evening”",
        "then:\n\n1. by boat",
        "see https://example.org/a-ferry-at-nine",
        "5",
    ]
    ends += [
        "evening。",
        "```",
        "*evening*",
        "evening…",
        "(in the evening)",
        "done.\n\nBest regards",
    ]
    pairs = [(f"Where {i}?", f"{CUT} {end}", "There.") for i, end in enumerate(ends)]
    assert found(examine(*answers(200), *pairs), "no_end") == []


def test_preferring_a_refusal_stands_out_where_refusals_are_rejected() -> None:
    prefers_answer = [(f"Q{i}", ANSWER.format(i), REFUSAL) for i in range(30)]
    prefers_refusal = [(f"R{i}", REFUSAL, ANSWER.format(i)) for i in range(30)]
    assert found(examine(*prefers_answer, prefers_refusal[0]), "likely_swapped") == [(30, None)]
    assert found(examine(*prefers_refusal, prefers_answer[0]), "likely_swapped") == [(30, None)]
    assert found(examine(*prefers_answer, *prefers_refusal), "likely_swapped") == []
    assert found(examine(*prefers_answer[:5], prefers_refusal[0]), "likely_swapped") == []


def test_hints_on_columns_that_are_swapped_throughout() -> None:
    assert examine(*answers(10)).tally.hints() == []
    scores = examine(*answers(30), score_chosen=1, score_rejected=5).tally.hints()
    assert "In 30 of the 30 pairs with scores" in scores[0]
    shorter = [(prompt, worse, better) for prompt, better, worse in answers(30)]
    assert "the shorter one in 100 %" in examine(*shorter).tally.hints()[0]
    assert "the longer one in 100 %" in examine(*answers(30)).tally.hints()[0]


def test_repeated_prompts() -> None:
    pairs = [("p", "a", "b"), ("q", "a", "b"), ("p", "a", "c"), ("p", "b", "a"), ("p", "c", "a")]
    # The swapped pairs are contradictions, which are not told twice.
    assert found(examine(*pairs), "repeated_prompt") == [(2, 0)]


def test_a_ranked_list_is_no_circle_and_a_circle_is() -> None:
    ranked = [("p", "a", "b"), ("p", "b", "c"), ("p", "a", "c"), ("q", "c", "a")]
    assert found(examine(*ranked), "conflicting_prompt") == []
    circle = [*ranked[:2], ("p", "c", "d"), ("p", "d", "a"), ("q", "c", "a")]
    assert found(examine(*circle), "conflicting_prompt") == [(0, 1), (1, 0), (2, 0), (3, 0)]
    # A plain contradiction is a circle of two, which has a name of its own.
    assert found(examine(("p", "a", "b"), ("p", "b", "a")), "conflicting_prompt") == []


@given(st.lists(st.sampled_from(list(permutations("abcde", 2))), max_size=14))
def test_circles_are_those_that_walking_finds(edges: list[tuple[str, str]]) -> None:
    def reaches(start: str, end: str) -> bool:
        seen, waiting = set(), [start]
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += [worse for better, worse in edges if better == node]
        return end in seen

    expected = {
        i
        for i, (better, worse) in enumerate(edges)
        if reaches(worse, better) and (worse, better) not in edges
    }
    examination = examine(*[("p", better, worse) for better, worse in edges])
    assert {pair for pair, _ in found(examination, "conflicting_prompt")} == expected


def test_responses_used_for_other_prompts() -> None:
    long = "x" * MIN_REUSED
    pairs = [("p", long, "a"), ("q", "b", "c"), ("r", "d", long), ("p", long, "e")]
    assert found(examine(*pairs), "reused_response") == [(0, 2), (2, 0), (3, 2)]
    assert found(examine(("p", long, "a"), ("p", long, "b")), "reused_response") == []
    short = [("p", " Yes", " No"), ("q", " No", " Yes")]
    assert found(examine(*short), "reused_response") == []
