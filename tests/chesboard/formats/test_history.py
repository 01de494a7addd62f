"""Earlier turns in a column of their own stand before the prompt."""

import json
from typing import Any

import pytest

from chesboard.formats.known_forms import recognize
from tests.chesboard.formats.test_parsing import NO, QUESTION, YES, said, understand, why_not

SYSTEM = said("system", "Be brief.")
HELLO = [said("user", "Good day"), said("assistant", "Welcome")]
ASKED = {"instruction": "Shall we?", "chosen": "Yes.", "rejected": "No."}
PAIRS = [["Good day", "Welcome"]]


def read(row: dict[str, Any]) -> tuple[Any, list[str]]:
    """(prompt, warnings) of the one row."""
    [pair], reader = understand(json.dumps(row))
    assert (pair.preferred, pair.dispreferred) == ("Yes.", "No.")
    return pair.prompt, reader.warnings


@pytest.mark.parametrize(
    "history",
    [
        PAIRS,
        json.dumps(PAIRS),
        repr(PAIRS),
        HELLO,
        json.dumps(HELLO),
        repr(HELLO),
        [{"from": "human", "value": "Good day"}, {"from": "gpt", "value": "Welcome"}],
        {"role": ["user", "assistant"], "content": ["Good day", "Welcome"]},
    ],
    ids=str,
)
def test_is_read_however_it_is_written(history: Any) -> None:
    assert read(ASKED | {"history": history}) == ([*HELLO, QUESTION], [])


def test_of_several_rounds_keeps_their_order() -> None:
    prompt, _ = read(ASKED | {"history": [*PAIRS, ["Where to?", "Home."]]})
    assert prompt == [*HELLO, said("user", "Where to?"), said("assistant", "Home."), QUESTION]


@pytest.mark.parametrize("history", [[], "", "[]", None])
def test_that_is_empty_changes_nothing(history: Any) -> None:
    assert read(ASKED | {"history": history}) == ("Shall we?", [])


def test_instruction_and_input_are_the_last_turn() -> None:
    row = {"instruction": "Shall we?", "input": "Or not?", "history": PAIRS, "system": "Be brief."}
    prompt, warnings = read(row | {"chosen": "Yes.", "rejected": "No."})
    assert prompt == [SYSTEM, *HELLO, said("user", "Shall we?\n\nOr not?")]
    assert warnings == []


def test_stands_between_the_system_turn_and_the_prompt() -> None:
    row = {"prompt": [SYSTEM, QUESTION], "chosen": [YES], "rejected": [NO], "history": PAIRS}
    assert read(row) == ([SYSTEM, *HELLO, QUESTION], [])


@pytest.mark.parametrize("prompt", [[*HELLO, QUESTION], [SYSTEM, *HELLO, QUESTION]])
def test_that_the_prompt_repeats_is_read_once(prompt: list[dict[str, str]]) -> None:
    row = {"prompt": prompt, "chosen": [YES], "rejected": [NO], "history": PAIRS}
    assert read(row) == (prompt, [])


def test_that_ends_with_the_question_holds_the_prompt() -> None:
    row = {"history": [*HELLO, QUESTION], "chosen": "Yes.", "rejected": "No."}
    assert read(row) == ([*HELLO, QUESTION], [])
    assert read(row | {"prompt": "Shall we?"}) == ([*HELLO, QUESTION], [])
    assert read(row | {"prompt": ""}) == ([*HELLO, QUESTION], [])


def test_that_ends_with_an_answer_holds_no_prompt() -> None:
    row = ASKED | {"instruction": " ", "history": PAIRS}
    assert why_not(row) == ("instruction", "the prompt is empty")


def test_of_the_same_question_as_before_is_asked_again() -> None:
    row = ASKED | {"history": [["Shall we?", "Not now."]]}
    assert read(row) == ([QUESTION, said("assistant", "Not now."), QUESTION], [])


def test_before_whole_dialogues_is_read() -> None:
    row = {"chosen": [QUESTION, YES], "rejected": [QUESTION, NO], "history": PAIRS}
    assert read(row) == ([*HELLO, QUESTION], [])


@pytest.mark.parametrize(
    "history",
    ["They met before.", [["Good day", None]], ["Good day", "Welcome"], [["Good day"]], {"a": "b"}],
)
def test_of_no_certain_meaning_is_named(history: Any) -> None:
    prompt, [warning] = read(ASKED | {"history": history})
    assert prompt == "Shall we?"
    assert "`history` looks like part of the prompt, but is not read (in row 1)" in warning


def test_that_only_later_rows_have_is_read() -> None:
    rows = [ASKED, ASKED | {"history": PAIRS}]
    pairs, reader = understand("\n".join(map(json.dumps, rows)))
    assert [pair.prompt for pair in pairs] == ["Shall we?", [*HELLO, QUESTION]]
    assert reader.warnings == []


def test_of_a_table_is_read() -> None:
    pairs, _ = understand(
        'instruction,chosen,rejected,history\nShall we?,Yes.,No.,"[[""Good day"", ""Welcome""]]"\n',
        "a.csv",
    )
    assert [pair.prompt for pair in pairs] == [[*HELLO, QUESTION]]


def test_with_another_system_turn_rejects_the_row() -> None:
    other = [said("system", "Be long."), *HELLO]
    row = {"prompt": [SYSTEM, QUESTION], "chosen": [YES], "rejected": [NO], "history": other}
    assert why_not(row) == ("history", "has another system turn than the row's other messages")


def test_of_shp_is_the_prompt() -> None:
    columns = recognize(["history", "human_ref_A", "human_ref_B", "labels"])
    assert columns is not None
    assert (columns.prompt, columns.history) == ("history", None)


def test_has_a_role_that_the_preview_shows() -> None:
    columns = recognize(["Instruction", "History", "Chosen", "Rejected"])
    assert columns is not None
    assert columns.roles()["History"] == "earlier turns, before the prompt"
