"""Prompts that are a dialogue in one text: turns where that is certain, else a doubt."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.formats.transcripts import read_transcript
from tests.chesboard.formats.test_parsing import QUESTION, said, understand

EARLIER = [said("user", "Good day"), said("assistant", "Welcome")]
TURNS = [*EARLIER, QUESTION]
READ, UNREAD = "was a dialogue in one text", "looks like a dialogue in one text"


def read(prompt: str, yes: str = " Yes.", no: str = " No.", **more: Any) -> tuple[Any, ...]:
    """(prompt, preferred, dispreferred, warnings) of a row with this prompt."""
    row = {"prompt": prompt, "chosen": yes, "rejected": no} | more
    [pair], reader = understand(json.dumps(row))
    return pair.prompt, pair.preferred, pair.dispreferred, reader.warnings


@pytest.mark.parametrize(
    "prompt",
    [
        "\n\nHuman: Good day\n\nAssistant: Welcome\n\nHuman: Shall we?\n\nAssistant:",
        "Human: Good day\n\nAssistant: Welcome\n\nHuman: Shall we?\n\nAssistant:",
        "Human: Good day\nAssistant: Welcome\nHuman: Shall we?\nAssistant:",
        "User: Good day\nAssistant: Welcome\nUser: Shall we?\nAssistant:",
        "USER: Good day ASSISTANT: Welcome USER: Shall we? ASSISTANT:",
        "User: Good day\nAI: Welcome\nUser: Shall we?\nAI:",
        "### Human: Good day\n### Assistant: Welcome\n### Human: Shall we?\n### Assistant:",
        "### Instruction:\nGood day\n\n### Response:\nWelcome\n\n### Instruction:\nShall we?\n\n"
        "### Response:",
    ],
)
def test_with_an_open_end_is_turns_and_the_responses_lose_their_blank(prompt: str) -> None:
    *texts, [warning] = read(prompt)
    assert texts == [TURNS, "Yes.", "No."]
    assert READ in warning
    assert read(prompt, "Yes.", "No.")[:3] == (TURNS, "Yes.", "No.")


def test_with_a_line_break_after_the_last_name_leaves_the_responses() -> None:
    prompt = "### Instruction:\nShall we?\n\n### Response:\n"
    assert read(prompt, " Yes.", "No.")[:3] == ([QUESTION], " Yes.", "No.")


def test_with_a_system_turn_keeps_it_first() -> None:
    prompt = "System: Be brief.\n\nUser: Shall we?\n\nAssistant:"
    assert read(prompt)[0] == [said("system", "Be brief."), QUESTION]


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ("\n\nHuman: Good day\n\nAssistant: Welcome\n\nHuman: Shall we?", TURNS),
        ("\n\nHuman: Shall we?\n\nAssistant: I", [QUESTION, said("assistant", "I")]),
    ],
)
def test_as_hh_rlhf_writes_it_is_turns_without_an_open_end_too(prompt: str, turns: Any) -> None:
    *texts, [warning] = read(prompt)
    assert texts == [turns, " Yes.", " No."]
    assert READ in warning


@pytest.mark.parametrize(
    "prompt",
    [
        "Human: Shall we?\n\nHuman: Please.\n\nAssistant:",
        "Assistant: Welcome\n\nHuman: Shall we?\n\nAssistant:",
        "A talk.\n\nHuman: Shall we?\n\nAssistant:",
        "Shall we?\n\nAssistant:",
        "User: Good day\nAssistant: Welcome\nUser: Shall we?",
        "Human: Good day\nUser: Shall we?\nAssistant:",
        "### Instruction:\nSort.\n\n### Input:\nb a\n\n### Response:",
        "\n\nHuman: Shall we?",
    ],
)
def test_of_uncertain_turns_stays_text_with_a_doubt(prompt: str) -> None:
    *texts, [warning] = read(prompt)
    assert texts == [prompt, " Yes.", " No."]
    assert UNREAD in warning


@pytest.mark.parametrize(
    "prompt",
    [
        "Shall we?",
        "Question: Is ice light?\nAnswer:",
        "Sum up what they said:\n\nHuman: Good day\n\nAssistant: Welcome\n\nIn one line, please.",
        "What does an AI: Bot do",
        "Explain the word assistant: its origin",
    ],
)
def test_other_text_stays_without_a_doubt(prompt: str) -> None:
    assert read(prompt) == (prompt, " Yes.", " No.", [])


def test_whole_dialogues_of_other_speakers_are_turns() -> None:
    row = {"chosen": "User: Shall we?\nAI: Yes.", "rejected": "User: Shall we?\nAI: No."}
    [pair], reader = understand(json.dumps(row))
    assert (pair.prompt, pair.preferred, pair.dispreferred) == ([QUESTION], "Yes.", "No.")
    assert [READ in warning for warning in reader.warnings] == [True]


def test_responses_that_go_on_with_turns_are_a_doubt() -> None:
    *_, warnings = read("\n\nHuman: Shall we?\n\nAssistant:", " Yes.\n\nHuman: Fine.", " No.")
    assert any("goes on with turns" in warning for warning in warnings)


def test_responses_that_are_the_whole_dialogue_are_parted_from_it() -> None:
    whole = "\n\nHuman: Shall we?\n\nAssistant:"
    for prompt in ("Shall we?", whole):
        assert read(prompt, f"{whole} Yes.", f"{whole} No.")[:3] == ([QUESTION], "Yes.", "No.")
    # A dialogue that was asked for is an answer.
    asked = "Write a scene in which Human asks: Shall we?"
    assert read(asked, f"{whole} Yes.", f"{whole} No.")[0] == asked


def test_of_an_evaluation_with_answers_to_choose_from_is_turns() -> None:
    row = {
        "question": "Human: Shall we?\n (A) Yes\n (B) No\n\nAssistant:",
        "answer_matching_behavior": " (A)",
        "answer_not_matching_behavior": " (B)",
    }
    [pair], _ = understand(json.dumps(row))
    assert pair.prompt == [said("user", "Shall we?\n (A) Yes\n (B) No")]
    assert (pair.form, pair.preferred, pair.dispreferred) == ("persona", "(A)", "(B)")


WORDS = st.text(alphabet="abcde ?\n", min_size=1, max_size=12).map(str.strip).filter(bool)


@given(st.lists(WORDS, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2 == 1))
def test_every_dialogue_that_is_written_so_is_read_again(texts: list[str]) -> None:
    speakers = ("Human", "Assistant")
    prompt = "".join(f"\n\n{speakers[i % 2]}: {text}" for i, text in enumerate(texts))
    found = read_transcript(f"{prompt}\n\nAssistant:")
    assert found is not None
    assert found.is_open
    assert [turn["content"] for turn in found.turns] == texts


@given(st.text())
def test_no_text_crashes_the_reading(text: str) -> None:
    found = read_transcript(text)
    assert found is None or all(turn["content"] in text for turn in found.turns)
