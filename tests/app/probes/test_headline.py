"""Sentences about numbers: what is said, and that nothing is said that the numbers do not hold."""

from typing import Any

import pytest

from app.probes.headline import Observation, probe_headline, prompt_headline, run_headline
from app.probes.severity import Displacement

NAN = float("nan")


def seen(**changes: Any) -> Observation:
    """The paper's case: No over Never, and Yes takes the mass."""
    values: dict[str, Any] = {
        "pair": 0,
        "preferred_tokens": ["No", "<|im_end|>"],
        "dispreferred_tokens": ["Never", "<|im_end|>"],
        "fork_position": 0,
        "preferred_change": -2.12,
        "dispreferred_change": -5.0,
        "preferred_prob": (0.110, 0.041),
        "dispreferred_prob": (0.3, 0.002),
        "gainers": [("Yes", 0.31), ("Sure", 0.04), ("the", 0.004)],
        "group_changes": {},
        "moved_mass": 0.367,
    }
    return Observation(**{**values, **changes})


def say(objective: str = "dpo", *, running: bool = False, **changes: Any) -> str:
    return probe_headline(seen(**changes), objective, running=running).sentence


def is_displaced(objective: str = "dpo", **changes: Any) -> bool:
    return probe_headline(seen(**changes), objective, running=False).displaced


def test_displacement() -> None:
    assert say() == (
        "The preferred response “No” lost 2.1 nats while the margin grew (the "
        "dispreferred “Never” lost 5.0 nats); the probability of “No” went from 0.110 to 0.041 "
        "and the mass went to “Yes” (+0.310), “Sure” (+0.040)."
    )
    assert is_displaced()


def brief(objective: str = "dpo", *, running: bool = False, **changes: Any) -> str:
    return probe_headline(seen(**changes), objective, running=running).short


def test_in_short_it_is_one_sentence_with_what_the_verdict_rests_on() -> None:
    fallen = "he preferred response “No” lost 2.1 nats while the margin grew"
    assert brief() == f"T{fallen}; “Yes” gained most (+0.310)."
    assert brief(gainers=[]) == f"T{fallen}."
    assert brief(running=True) == f"So far, t{fallen}; “Yes” gained most (+0.310)."
    catastrophic = Displacement(
        "catastrophic",
        position=0,
        destination="opposite_group",
        gains={"opposite_group": 0.35},
        opposite_groups=("affirmative",),
    )
    assert brief(displacement=catastrophic) == (
        f"T{fallen}; most mass went to the opposite of “No”, the group “affirmative” (+0.350)."
    )
    behind = Displacement(None, position=1, top_gainer=(" way", 0.2))
    assert brief(displacement=behind) == f"T{fallen}; “␣way” gained most (+0.200)."
    assert brief("cross_entropy") == "The preferred response “No” lost 2.1 nats."
    assert brief(preferred_change=0.5) == (
        "The preferred response “No” gained 0.5 nats and the dispreferred “Never” lost 5.0 nats: "
        "the margin grew."
    )
    assert "no longer finite" in brief(preferred_change=NAN)


def test_in_short_a_run_counts_its_displaced_pairs_too() -> None:
    pairs = [seen(), seen(pair=4, preferred_change=0.1)]
    told = run_headline(pairs, "dpo", running=False)
    assert told is not None
    assert told.short == (
        "Pair 0: the preferred response “No” lost 2.1 nats while the margin grew; “Yes” gained "
        "most (+0.310). 1 of the 2 watched pairs is displaced."
    )


def test_when_it_began_and_whether_theory_knew() -> None:
    sentence = say(onset_step=12, predicted_hit=2)
    assert "(the dispreferred “Never” lost 5.0 nats), displaced since step 12; the prob" in sentence
    assert sentence.endswith("“Sure” (+0.040). Theory predicted 2 of the top 3 gainers.")


@pytest.mark.parametrize(
    ("hit", "gainers", "words"),
    [
        (0, 3, "Theory predicted none of the top 3 gainers."),
        (3, 3, "Theory predicted all of the top 3 gainers."),
        (3, 9, "Theory predicted all of the top 3 gainers."),
        (1, 2, "Theory predicted 1 of the top 2 gainers."),
        (1, 1, "Theory predicted this gainer."),
        (0, 1, "Theory did not predict this gainer."),
    ],
)
def test_theory_is_counted_in_words(hit: int, gainers: int, words: str) -> None:
    tokens = [(f"t{n}", 0.1) for n in range(gainers)]
    assert say(predicted_hit=hit, gainers=tokens).endswith(f". {words}")


def test_theory_is_not_mentioned_where_it_or_the_gainers_are_nothing() -> None:
    assert "Theory" not in say()
    assert "Theory" not in say(predicted_hit=0, gainers=[])


def test_a_pair_that_is_not_displaced_has_no_onset() -> None:
    assert "since step" not in say(onset_step=12, preferred_change=0.1)
    assert "since step" not in say("cross_entropy", onset_step=12)


def test_a_prompt_is_told_by_the_tokens_that_follow_it() -> None:
    def tell(moved: float, running: bool = False, **changes: Any) -> str:
        told = {"gainers": [("Yes", 0.3), ("a", 0.001)], "losers": [("No", -0.25)], **changes}
        return prompt_headline(**told, moved_mass=moved, running=running).sentence

    assert tell(0.31) == (
        "0.310 of the next token's probability moved: “Yes” (+0.300) gained and “No” (-0.250) lost."
    )
    assert tell(0.31, running=True).startswith("So far, 0.310 of the next")
    assert "spread over many tokens" in tell(0.31, gainers=[("a", 0.001)], losers=[])
    assert tell(1e-5, running=True).startswith("So far, nothing has moved yet")
    assert "no longer finite" in tell(NAN)


def test_while_it_runs_it_is_so_far() -> None:
    assert say(running=True).startswith("So far, the preferred response “No” lost 2.1 nats")


def test_the_group_that_gained_most_is_named() -> None:
    groups = {"affirmative": 0.352, "negative": -0.3}
    assert say(group_changes=groups).endswith(
        "“Sure” (+0.040); the group “affirmative” as a whole gained 0.352."
    )
    assert "group" not in say(group_changes={"negative": -0.3})


def test_both_moved_apart_as_wished() -> None:
    changes: dict[str, Any] = {
        "preferred_change": 0.5,
        "dispreferred_change": -1.0,
        "preferred_prob": (0.11, 0.18),
        "gainers": [("No", 0.07), ("Yes", 0.03)],
        "moved_mass": 0.1,
    }
    assert say(**changes) == (
        "The preferred response “No” gained 0.5 nats and the dispreferred “Never” lost 1.0 nats: "
        "the margin grew; the probability of “No” went from 0.110 to 0.180 and mass also went "
        "to “Yes” (+0.030)."
    )
    assert not is_displaced(**changes)


def test_another_token_that_gained_more_than_the_preferred_one_is_said_so() -> None:
    changes: dict[str, Any] = {
        "preferred_change": 0.5,
        "dispreferred_change": -1.8,
        "preferred_prob": (0.128, 0.202),
        "gainers": [("Yes", 0.103), ("No", 0.074)],
        "moved_mass": 0.19,
    }
    assert say(**changes).endswith(
        "the probability of “No” went from 0.128 to 0.202 (+0.074), but more of the mass went to "
        "“Yes” (+0.103)."
    )


def test_the_preferred_rose_but_the_other_rose_more() -> None:
    changes: dict[str, Any] = {"preferred_change": 0.5, "dispreferred_change": 1.0}
    assert "gained 0.5 nats, but the dispreferred “Never” gained 1.0 nats: the margin shrank" in (
        say(**changes)
    )
    assert not is_displaced(**changes)


def test_the_preferred_fell_and_the_margin_with_it() -> None:
    changes: dict[str, Any] = {"preferred_change": -0.5, "dispreferred_change": -0.25}
    assert "lost 0.5 nats, but the dispreferred “Never” lost 0.25 nats: the margin shrank" in (
        say(**changes)
    )
    assert not is_displaced(**changes)


def test_the_other_response_may_gain_while_the_margin_shrinks() -> None:
    assert "lost 0.5 nats, but the dispreferred “Never” gained 0.2 nats: the margin shrank" in say(
        preferred_change=-0.5, dispreferred_change=0.2
    )


def test_a_margin_that_stayed() -> None:
    changes: dict[str, Any] = {"preferred_change": -0.5, "dispreferred_change": -0.5}
    assert "“Never” went with it, so the margin stayed" in say(**changes)
    assert not is_displaced(**changes)


def test_only_the_dispreferred_moved() -> None:
    changes: dict[str, Any] = {"preferred_change": 2e-5, "dispreferred_change": -1.5}
    assert "“No” kept its likelihood and the dispreferred “Never” lost 1.5 nats: the margin" in (
        say(**changes)
    )
    assert not is_displaced(**changes)


@pytest.mark.parametrize(("running", "words"), [(True, "has moved yet"), (False, "has moved")])
def test_nothing_moved(running: bool, words: str) -> None:
    changes: dict[str, Any] = {
        "preferred_change": -9e-5,
        "dispreferred_change": 9e-5,
        "moved_mass": 9e-5,
        "gainers": [("Yes", 9e-5)],
    }
    sentence = say(running=running, **changes)
    assert f"othing {words}: every change is below 0.0001" in sentence
    assert not is_displaced(**changes)


def test_cross_entropy_has_no_margin() -> None:
    sentence = say("cross_entropy")
    assert "lost 2.1 nats; the probability of “No” went" in sentence
    assert "margin" not in sentence
    assert not is_displaced("cross_entropy")


def test_a_fork_inside_the_response_is_named() -> None:
    sentence = say(
        preferred_tokens=["It", " is", " safe", "<|im_end|>"],
        dispreferred_tokens=["It", " is", " not", "<|im_end|>"],
        fork_position=2,
    )
    assert "The preferred response “It is safe” lost" in sentence
    assert "at the fork, the probability of “␣safe” went from 0.110 to 0.041" in sentence


def test_a_fork_at_the_first_of_several_tokens_is_no_whole_response() -> None:
    sentence = say(preferred_tokens=["No", " way", "<|im_end|>"])
    assert "at the fork, the probability of “No” went" in sentence


def test_a_fork_at_the_end_token() -> None:
    sentence = say(preferred_tokens=["No", "<|im_end|>"], fork_position=1)
    assert "at the fork, the probability of “<|im_end|>” went" in sentence


def test_two_responses_of_the_same_tokens() -> None:
    same: dict[str, Any] = {
        "preferred_tokens": ["No", "</s>"],
        "dispreferred_tokens": ["No", "</s>"],
    }
    assert "they are the same tokens" in say(
        **same, preferred_change=-1.0, dispreferred_change=-1.0
    )


@pytest.mark.parametrize(
    "changes",
    [{"preferred_change": NAN}, {"moved_mass": float("inf")}, {"preferred_prob": (0.1, NAN)}],
)
def test_numbers_that_are_none_are_not_made_up(changes: dict[str, Any]) -> None:
    assert "no longer finite" in say(**changes)
    assert not is_displaced(**changes)


def test_small_and_large_numbers_are_readable() -> None:
    assert "lost 0.012 nats" in say(preferred_change=-0.0123)
    assert "lost 123.5 nats" in say(preferred_change=-123.456, dispreferred_change=-200)
    assert "from 0.110 to 3.2e-06" in say(preferred_prob=(0.11, 3.21e-6))
    assert "from 0.0102 to 0.0095" in say(preferred_prob=(0.0102, 0.0095))
    assert "stayed at 0.110" in say(preferred_prob=(0.11, 0.11))
    assert "stayed at 3.2e-06" in say(preferred_prob=(3.2e-6, 3.2e-6))


def test_long_and_odd_texts_are_cut_and_made_visible() -> None:
    sentence = say(preferred_tokens=["word "] * 100 + ["</s>"], gainers=[("\n\n", 0.2)])
    assert "“word word word word word word word word…” lost" in sentence
    assert "“↵↵” (+0.200)" in sentence


def test_a_run_without_probes_says_nothing() -> None:
    assert run_headline([], "dpo", running=False) is None


def test_a_run_with_one_probe_says_what_the_probe_says() -> None:
    assert run_headline([seen()], "dpo", running=True) == probe_headline(
        seen(), "dpo", running=True
    )


def test_a_run_speaks_of_the_worst_displaced_pair_and_counts_them() -> None:
    verdict = run_headline(
        [
            seen(pair=3, preferred_change=0.1, moved_mass=0.9),
            seen(pair=4, preferred_change=-0.2),
            seen(pair=5, preferred_change=-3.0),
        ],
        "dpo",
        running=False,
    )
    assert verdict is not None
    assert verdict.displaced
    assert verdict.sentence.startswith("Pair 5: the preferred response “No” lost 3.0 nats")
    assert verdict.sentence.endswith(". 2 of the 3 watched pairs are displaced.")


def test_a_run_without_displacement_speaks_of_the_pair_that_moved_most() -> None:
    verdict = run_headline(
        [
            seen(pair=1, preferred_change=0.1, moved_mass=0.1),
            seen(pair=2, preferred_change=0.2, moved_mass=0.4),
        ],
        "dpo",
        running=True,
    )
    assert verdict is not None
    assert not verdict.displaced
    assert verdict.sentence.startswith("Pair 2: so far, the preferred response")
    assert verdict.sentence.endswith(" None of the 2 watched pairs are displaced so far.")


def test_one_of_several_is_singular() -> None:
    verdict = run_headline([seen(), seen(preferred_change=0.1)], "dpo", running=False)
    assert verdict is not None
    assert verdict.sentence.endswith(" 1 of the 2 watched pairs is displaced.")


def test_a_run_that_diverged_says_so_first() -> None:
    verdict = run_headline([seen(), seen(pair=7, preferred_change=NAN)], "dpo", running=False)
    assert verdict is not None
    assert verdict.sentence.startswith("Pair 7: the numbers of this pair are no longer finite")
