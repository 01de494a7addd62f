"""What the demo says of a run is what the API says, whatever happened."""

from typing import Any

from app.local.demo.report import ending, outcome
from tests.app.local.demo.fake_api import ANSWERS, PROBE

RUN: dict[str, Any] = {"id": 3, "name": "“No” over “no”", "displaced": True, "verdict": "It fell."}


def test_a_displaced_pair_with_its_numbers() -> None:
    assert outcome(RUN, PROBE, ANSWERS, "two spellings").splitlines() == [
        "",
        "“No” over “no”: two spellings",
        "  log-probability of the preferred response: −0.20 nats; displaced since step 1",
        "  its probability: 0.091 → 0.075",
        "  affirmative words together: 0.584 → 0.712",
        "  negative words together: 0.300 → 0.200",
        "  gained most: “Yes”, +0.110",
        "  the model's own answer: “No” → “Yes”",
        "  It fell.",
    ]


def test_the_fall_of_a_small_probability_shows() -> None:
    fork = {"preferred_prob": [0.0102, 0.0095], "groups": {}}
    told = outcome(RUN, {**PROBE, "fork": fork}, [], "")
    assert "  its probability: 0.0102 → 0.0095\n" in told


def test_without_answers_none_is_told() -> None:
    assert "own answer" not in outcome(RUN, PROBE, [], "")


def test_the_kind_of_displacement_is_named_where_it_is_known() -> None:
    known = outcome({**RUN, "displacement_kind": "catastrophic"}, PROBE, [], "")
    assert "displaced since step 1, catastrophic\n" in known
    unknown = outcome({**RUN, "displacement_kind": None}, PROBE, [], "")
    assert "displaced since step 1\n" in unknown


def test_a_pair_that_kept_its_probability() -> None:
    probe = {**PROBE, "preferred_change": [0.0, 0.5], "onset_step": None, "gainers": []}
    told = outcome({**RUN, "displaced": False, "displacement_kind": "kept"}, probe, [], "")
    assert "+0.50 nats; not displaced\n" in told
    assert "gained most" not in told


def test_numbers_that_are_not_finite() -> None:
    probe = {**PROBE, "preferred_change": [0.0, None]}
    assert "preferred response: not finite nats" not in outcome(RUN, probe, [], "")
    assert "preferred response: not finite" in outcome(RUN, probe, [], "")


def test_the_ending_counts_what_is_displaced() -> None:
    kept = {**RUN, "id": 4, "displaced": False}
    assert "1 of the 2 pairs is displaced (run 3)." in ending([RUN, kept], "/compare")
    assert "2 of the 2 pairs are displaced (run 3, 5)." in ending([RUN, {**RUN, "id": 5}], "")
    assert "None of the 1 pairs are displaced. " in ending([kept], "/compare")
