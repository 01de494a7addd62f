"""Nothing is read twice: a prompt in both responses, turns in prompt and dialogues, a prefill."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.formats.repeats import without_prompt
from tests.chesboard.formats.test_parsing import NO, QUESTION, YES, said, understand, why_not

SYSTEM = said("system", "Be brief.")
HELLO = [said("user", "Good day"), said("assistant", "Welcome")]
BEGUN = said("assistant", "Answer:")


def read(prompt: Any, chosen: Any, rejected: Any) -> tuple[Any, str, str, list[str]]:
    """(prompt, preferred, dispreferred, warnings) of the one row."""
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    [pair], reader = understand(json.dumps(row))
    return pair.prompt, pair.preferred, pair.dispreferred, reader.warnings


# --- the prompt in the responses ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "ours", "theirs"),
    [
        ("Where is the Louvre?", " In Paris.", " In Lyon."),
        ("Where is the Louvre?", "\nIn Paris.", "\nIn Lyon."),
        ("Question: Is snow cold?\nAnswer:", " Yes.", " No."),
        ("Is snow cold? Answer: ", "Yes.", "No."),
        ("雪是冷的吗？", "是的。", "不是。"),
    ],
)
def test_prompt_that_both_responses_repeat_is_taken_off(
    prompt: str, ours: str, theirs: str
) -> None:
    *texts, [warning] = read(prompt, prompt + ours, prompt + theirs)
    assert texts == [prompt, ours.strip(), theirs.strip()]
    assert "Both responses repeated the prompt" in warning


def test_last_turn_that_both_responses_repeat_is_taken_off() -> None:
    asked = said("user", "Where is the Louvre?")
    both = ("Where is the Louvre? In Paris.", "Where is the Louvre? In Lyon.")
    for chosen, rejected in (both, [[said("assistant", text)] for text in both]):
        *texts, [warning] = read([*HELLO, asked], chosen, rejected)
        assert texts == [[*HELLO, asked], "In Paris.", "In Lyon."]
        assert "it was taken off" in warning


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "doubt"),
    [
        ("Where is it now?", "Where is it now? Here.", "There.", "One of the responses"),
        ("Hello", "Hello! How are you?", "Hello, what do you want?", "cannot be told"),
        ("Where is it now?", "Where is it now?", "Where is it now? Here.", "cannot be told"),
        ("Hello", "Hello! How are you?", "Go away.", None),
        ("Where is it now", "Where is it now? Here.", "Where is it now? There.", "be told"),
        ("Where is it?", "\n\nHuman: Where is it?\n\nAssistant: Here.", "There.", "One of the"),
        ("Sort these words.\n\nb a", "Sort these words. a b", "Sort these words. b", "be told"),
        ("Sort: b a\nAnswer:", "Answer: a b", "Answer: b", "be told"),
        ("Say it.\nYes", "Yes, here.", "Yes, there.", None),
        ("Is it 3 or", "Is it 3 or 4?", "Is it 3 orbits?", "One of the responses"),
        ("Count from 1 to 3", "Count from 1 to 30?", "Count from 1 to 3.5?", None),
    ],
)
def test_what_is_no_certain_repetition_stays(
    prompt: str, chosen: str, rejected: str, doubt: str | None
) -> None:
    *texts, warnings = read(prompt, chosen, rejected)
    assert texts == [prompt, chosen, rejected]
    assert len(warnings) == bool(doubt)
    assert all(doubt and doubt in warning for warning in warnings)


@given(st.text(), st.text(), st.text())
def test_what_is_taken_off_is_the_prompt_and_nothing_else(prompt: str, a: str, b: str) -> None:
    found = without_prompt(prompt, prompt + a, prompt + b)
    if found.kind == "prompt_repeated":
        assert (found.preferred, found.dispreferred) == (a.lstrip(), b.lstrip())
    else:
        assert (found.preferred, found.dispreferred) == (prompt + a, prompt + b)


# --- turns in the prompt and in the dialogues ----------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "before", "turns"),
    [
        ([SYSTEM, QUESTION], [QUESTION], [SYSTEM, QUESTION]),
        ([SYSTEM, QUESTION], [SYSTEM, QUESTION], [SYSTEM, QUESTION]),
        ([QUESTION], [SYSTEM, QUESTION], [SYSTEM, QUESTION]),
        ([SYSTEM], [QUESTION], [SYSTEM, QUESTION]),
        ([SYSTEM, *HELLO, QUESTION], [QUESTION], [SYSTEM, *HELLO, QUESTION]),
        ([SYSTEM, *HELLO, QUESTION], [*HELLO, QUESTION], [SYSTEM, *HELLO, QUESTION]),
        ([QUESTION], [*HELLO, QUESTION], [*HELLO, QUESTION]),
        ([SYSTEM, *HELLO], [*HELLO, QUESTION], [SYSTEM, *HELLO, QUESTION]),
        (HELLO, [QUESTION], [*HELLO, QUESTION]),
        ([said("user", "Shall we? ")], [QUESTION], [QUESTION]),
        ("Shall we?", [*HELLO, QUESTION], [*HELLO, QUESTION]),
        ("Good day", [*HELLO, QUESTION], [*HELLO, QUESTION]),
    ],
)
def test_turns_that_prompt_and_dialogues_share_stand_once(
    prompt: Any, before: list[dict[str, str]], turns: list[dict[str, str]]
) -> None:
    assert read(prompt, [*before, YES], [*before, NO]) == (turns, "Yes.", "No.", [])


def test_different_system_turns_reject_the_row() -> None:
    other = said("system", "Be long.")
    row = {
        "prompt": [SYSTEM, QUESTION],
        "chosen": [other, QUESTION, YES],
        "rejected": [other, QUESTION, NO],
    }
    assert why_not(row) == ("prompt", "has another system turn than the row's other messages")


def test_a_prompt_that_the_dialogues_lack_is_a_doubt() -> None:
    other = said("user", "What else?")
    *texts, [warning] = read([other], [QUESTION, YES], [QUESTION, NO])
    assert texts == [[other, QUESTION], "Yes.", "No."]
    assert "have no turn in common" in warning
    *texts, [warning] = read("What else?", [QUESTION, YES], [QUESTION, NO])
    assert texts == [[QUESTION], "Yes.", "No."]
    assert "`prompt` looks like part of the prompt, but is not read" in warning


def test_a_response_at_the_end_of_the_prompt_is_taken_off_it() -> None:
    for chosen, rejected in (("Yes.", "No."), ([YES], [NO]), ([QUESTION, YES], [QUESTION, NO])):
        *texts, [warning] = read([QUESTION, YES], chosen, rejected)
        assert texts == [[QUESTION], "Yes.", "No."]
        assert "ended with one of the responses" in warning


# --- a beginning of the response -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        (" Yes.", " No."),
        ([said("assistant", " Yes.")], [said("assistant", " No.")]),
        ([QUESTION, said("assistant", " Yes.")], [QUESTION, said("assistant", " No.")]),
        ([QUESTION, BEGUN, YES], [QUESTION, BEGUN, NO]),
        ([said("assistant", "Answer: Yes.")], [said("assistant", "Answer: No.")]),
        (
            [QUESTION, said("assistant", "Answer: Yes.")],
            [QUESTION, said("assistant", "Answer: No.")],
        ),
    ],
)
def test_prefill_is_the_last_turn_and_the_responses_go_on(chosen: Any, rejected: Any) -> None:
    prompt, *responses, warnings = read([QUESTION, BEGUN], chosen, rejected)
    assert (prompt, warnings) == ([QUESTION, BEGUN], [])
    assert [response.strip() for response in responses] == ["Yes.", "No."]
    assert not any(response.startswith(BEGUN["content"]) for response in responses)


def test_prefill_that_texts_repeat_is_taken_off_them() -> None:
    *texts, [warning] = read([QUESTION, BEGUN], "Answer: Yes.", "Answer: No.")
    assert texts == [[QUESTION, BEGUN], " Yes.", " No."]
    assert "it was taken off" in warning


# --- rendered by a template ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "mark"),
    [
        ("<|im_start|>user\nShall we?<|im_end|>\n<|im_start|>assistant\n", "<|im_start|>"),
        ("<|start_header_id|>user<|end_header_id|>\n\nShall we?<|eot_id|>", "<|start_header_id|>"),
        ("<s>[INST] Shall we? [/INST]", "<s>"),
        ("[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nShall we? [/INST]", "[INST]"),
        ("<bos><start_of_turn>user\nShall we?<end_of_turn>\n", "<bos>"),
        ("<|user|>\nShall we?<|end|>\n<|assistant|>\n", "<|user|>"),
        ("<｜User｜>Shall we?<｜Assistant｜>", "<｜User｜>"),
    ],
)
def test_rendered_prompt_stays_text_and_is_named(prompt: str, mark: str) -> None:
    *texts, [warning] = read(prompt, "Yes.", "No.")
    assert texts == [prompt, "Yes.", "No."]
    assert f"holds {mark} (in row 1)" in warning


def test_marks_at_the_end_of_responses_are_named() -> None:
    *_, [warning] = read("Shall we?", "Yes.<|im_end|>\n", "No.<|im_end|>\n")
    assert "A response holds the mark <|im_end|>" in warning


@pytest.mark.parametrize(
    "text", ["a[i] < b", "<b>bold</b> <s >", "<user>", "x = [INSTALL]", "<think>"]
)
def test_other_brackets_are_no_marks(text: str) -> None:
    assert read(text, "Yes.", "No.")[3] == []
