"""The forms of preference data that are recognized, each on rows written for it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chesboard.formats.dialogues import common_words
from chesboard.formats.guessing import guess
from chesboard.formats.known_forms import recognize
from chesboard.formats.layouts import restore
from tests.chesboard.formats.test_parsing import (
    NO,
    QUESTION,
    YES,
    said,
    understand,
    understand_row,
    why_not,
)

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
SYSTEM = said("system", "Be brief.")
EARLIER = [said("user", "Hi"), said("assistant", "Hello")]

ROWS: dict[str, tuple[dict[str, Any], str, Any, str, str]] = {
    "TRL, standard, explicit prompt": (
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        "text",
        "The sky is",
        " blue.",
        " green.",
    ),
    "TRL, standard, implicit prompt": (
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        "implicit",
        "The sky is",
        " blue.",
        " black.",
    ),
    "TRL, conversational, explicit prompt": (
        {"prompt": [SYSTEM, *EARLIER, QUESTION], "chosen": [YES], "rejected": [NO]},
        "chat",
        [SYSTEM, *EARLIER, QUESTION],
        "Yes.",
        "No.",
    ),
    "TRL, conversational, implicit prompt": (
        {"chosen": [SYSTEM, QUESTION, YES], "rejected": [SYSTEM, QUESTION, NO]},
        "chat",
        [SYSTEM, QUESTION],
        "Yes.",
        "No.",
    ),
    "UltraFeedback, binarized": (
        {
            "prompt": "Shall we?",
            "prompt_id": "7",
            "chosen": [QUESTION, YES],
            "rejected": [QUESTION, NO],
            "messages": [QUESTION, YES],
            "score_chosen": 8.5,
            "score_rejected": 3.0,
        },
        "ultrafeedback",
        [QUESTION],
        "Yes.",
        "No.",
    ),
    "AlpacaFarm, first preferred": (
        {
            "instruction": "Answer.",
            "input": "Shall we?",
            "output_1": "Yes.",
            "output_2": "No.",
            "preference": 1,
        },
        "alpacafarm",
        "Answer.\n\nShall we?",
        "Yes.",
        "No.",
    ),
    "AlpacaFarm, second preferred, no input": (
        {
            "instruction": "Shall we?",
            "input": "",
            "output_1": "No.",
            "output_2": "Yes.",
            "preference": 2,
        },
        "alpacafarm",
        "Shall we?",
        "Yes.",
        "No.",
    ),
    "Argilla, ORPO": (
        {"system": "Be brief.", "question": "Shall we?", "chosen": "Yes.", "rejected": "No."},
        "orpo",
        [SYSTEM, QUESTION],
        "Yes.",
        "No.",
    ),
    "ORPO, empty system prompt": (
        {"system": "", "question": "Shall we?", "chosen": "Yes.", "rejected": "No."},
        "orpo",
        [QUESTION],
        "Yes.",
        "No.",
    ),
    "SHP, by label": (
        {
            "history": "Shall we?",
            "human_ref_A": "No.",
            "human_ref_B": "Yes.",
            "labels": 0,
            "score_A": 4,
            "score_B": 9,
        },
        "shp",
        "Shall we?",
        "Yes.",
        "No.",
    ),
    "SHP, by score": (
        {
            "history": "Shall we?",
            "human_ref_A": "Yes.",
            "human_ref_B": "No.",
            "score_A": 9,
            "score_B": 4,
        },
        "shp",
        "Shall we?",
        "Yes.",
        "No.",
    ),
    "H2O LLM Studio": (
        {"prompt": "Shall we?", "chosen_response": "Yes.", "rejected_response": "No."},
        "h2o",
        "Shall we?",
        "Yes.",
        "No.",
    ),
    "SafeRLHF": (
        {
            "prompt": "Shall we?",
            "response_0": "No.",
            "response_1": "Yes.",
            "better_response_id": 1,
        },
        "safe-rlhf",
        "Shall we?",
        "Yes.",
        "No.",
    ),
    "ShareGPT": (
        {
            "conversations": [{"from": "human", "value": "Shall we?"}],
            "chosen": {"from": "gpt", "value": "Yes."},
            "rejected": {"from": "gpt", "value": "No."},
        },
        "chat",
        [QUESTION],
        "Yes.",
        "No.",
    ),
    "content in parts": (
        {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": "Shall we?"}]}],
            "chosen": [YES],
            "rejected": [NO],
        },
        "chat",
        [QUESTION],
        "Yes.",
        "No.",
    ),
    "HH-RLHF with odd blanks": (
        {
            "chosen": "\n\nHuman: Shall we? \n\nAssistant:  Yes.\n",
            "rejected": "\n\nHuman: Shall we? \n\nAssistant: No.",
        },
        "hh-rlhf",
        [QUESTION],
        "Yes.",
        "No.",
    ),
    "persona": (
        {
            "question": "Shall we?",
            "answer_matching_behavior": " Yes",
            "answer_not_matching_behavior": " No",
        },
        "persona",
        "Shall we?",
        "Yes",
        "No",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_form_is_recognized_and_nothing_of_it_is_lost(name: str) -> None:
    row, form, prompt, preferred, dispreferred = ROWS[name]
    pair = understand_row(row)
    assert (pair.form, pair.prompt) == (form, prompt)
    assert (pair.preferred, pair.dispreferred) == (preferred, dispreferred)
    # Written as it came, it is what came: the columns of the pair, and the others beside it.
    columns = recognize(row)
    assert columns is not None
    assert columns.from_dict(json.loads(json.dumps(columns.as_dict()))) == columns
    cells = restore(
        columns, pair.prompt, pair.preferred, pair.dispreferred, pair.source, is_edited=False
    )
    beside = {name: value for name, value in pair.meta.items() if name != "row"}
    assert cells | beside == row


@pytest.mark.parametrize("name", ROWS)
def test_edited_pair_is_written_so_that_the_edit_is_read_again(name: str) -> None:
    row = ROWS[name][0]
    pair, columns = understand_row(row), recognize(row)
    assert columns is not None
    cells = restore(columns, pair.prompt, "Mended.", pair.dispreferred, pair.source, is_edited=True)
    beside = {name: value for name, value in pair.meta.items() if name != "row"}
    again = understand_row(cells | beside)
    assert (again.preferred.strip(), again.dispreferred) == ("Mended.", pair.dispreferred)


def test_layouts_that_are_derived_are_not_stored_twice() -> None:
    verbatim = {
        name for name, case in ROWS.items() if "cells" in (understand_row(case[0]).source or {})
    }
    assert verbatim == {
        "AlpacaFarm, first preferred",  # where the instruction ends is not in the prompt
        "ShareGPT",
        "content in parts",
        "HH-RLHF with odd blanks",
    }


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        (ROWS["AlpacaFarm, first preferred"][0] | {"preference": 0}, "preference", "must be 1 or"),
        (ROWS["AlpacaFarm, first preferred"][0] | {"preference": "x"}, "preference", "a number"),
        (ROWS["SHP, by score"][0] | {"score_B": 9}, "score_B", "neither is preferred"),
        (ROWS["SHP, by label"][0] | {"labels": None}, "labels", "is missing"),
        (ROWS["Argilla, ORPO"][0] | {"system": 7}, "system", "must be text"),
        ({"chosen": "The sky.", "rejected": "A cloud."}, "prompt", "same words"),
        ({"chosen": "blueberry", "rejected": "bluebell"}, "prompt", "same words"),
        ({"chosen": [SYSTEM, YES], "rejected": [SYSTEM, NO]}, "prompt", "the prompt is empty"),
        (
            {
                "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: So?\n\nAssistant: Yes.",
                "rejected": "\n\nHuman: Hi\n\nAssistant: Go.\n\nHuman: So?\n\nAssistant: No.",
            },
            "rejected",
            "do not answer the same prompt",
        ),
    ],
)
def test_row_that_says_no_preference_is_rejected(
    row: dict[str, Any], field: str, message: str
) -> None:
    found_field, found_message = why_not(row)
    assert found_field == field
    assert message in found_message


def test_file_s_own_row_column_is_kept_for_the_way_back() -> None:
    pair = understand_row({"prompt": "a", "chosen": "b", "rejected": "c", "row": "mine"})
    assert pair.meta["row"] == 1
    assert pair.source == {"row": "mine"}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["Question", "good_answer", "bad_answer"], ("Question", "good_answer", "bad_answer")),
        (["query", "winner_text", "loser_text"], ("query", "winner_text", "loser_text")),
        (["id", "preferred_x", "dispreferred_x"], ("prompt", "preferred_x", "dispreferred_x")),
        (["text", "label"], None),
        (["prompt", "chosen_score", "rejected_score"], None),
    ],
)
def test_names_that_suggest_what_they_hold_are_guessed(
    columns: list[str], expected: tuple[str, str, str] | None
) -> None:
    found = guess(columns)
    assert (found and (found.prompt, found.preferred, found.dispreferred)) == expected


# --- where two texts part ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "prompt"),
    [
        ("The sky is blue.", "The sky is black.", "The sky is"),
        ("The sky is", "The sky is blue", "The sky"),
        ("2 + 2 = 4", "2 + 2 = 40", "2 + 2 ="),
        ("I don't", "I don’t", "I"),
        ("天空是蓝色", "天空是绿色", "天空是"),
        ("Ja 👍🏽", "Ja 👍🏿", "Ja"),
        ("שלום עולם", "שלום לך", "שלום"),
        ("Cafe\u0301 a", "Cafe\u0300 a", ""),
        ("same", "same", ""),
        ("", "", ""),
    ],
)
def test_two_texts_part_between_words(ours: str, theirs: str, prompt: str) -> None:
    assert ours[: common_words(ours, theirs)] == prompt


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_what_is_cut_off_is_common_and_leaves_a_response(start: str, a: str, b: str) -> None:
    ours, theirs = start + a, start + b
    at = common_words(ours, theirs)
    assert ours[:at] == theirs[:at]
    assert at == 0 or (at < len(ours) and at < len(theirs))
    assert common_words(theirs, ours) == at


# --- the public files -------------------------------------------------------------------------


def public(name: str) -> bytes:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"NOT TESTED: {path.name} is not there")
    return path.read_bytes()


def test_public_hh_rlhf_file_is_read() -> None:
    pairs, intake = understand(public("hh-harmless-1000.jsonl"), "hh.jsonl", max_bytes=1 << 23)
    assert (len(pairs), dict(intake.reasons)) == (997, {"empty": 3})
    assert {pair.form for pair in pairs} == {"hh-rlhf"}
    for pair in pairs:
        assert isinstance(pair.prompt, list)
        assert pair.prompt[-1]["role"] == "user"


def test_public_persona_file_is_read() -> None:
    data = public("persona-ends-justify-means.jsonl")
    pairs, intake = understand(data, "persona.jsonl", max_bytes=1 << 23)
    assert (len(pairs), intake.rejected) == (1000, 0)
    assert {(pair.preferred, pair.dispreferred) for pair in pairs} == {("Yes", "No"), ("No", "Yes")}
    assert {pair.source is None for pair in pairs} == {True}


SERVICES: dict[str, dict[str, Any]] = {
    "OpenAI, Together, Fireworks": {
        "input": {"messages": [SYSTEM, QUESTION], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [YES],
        "non_preferred_output": [NO],
    },
    "ms-swift, messages": {
        "messages": [SYSTEM, QUESTION, YES],
        "rejected_response": NO["content"],
    },
    "ms-swift, two dialogues": {
        "messages": [SYSTEM, QUESTION, YES],
        "rejected_messages": [SYSTEM, QUESTION, NO],
    },
    "ms-swift, query": {
        "system": SYSTEM["content"],
        "query": QUESTION["content"],
        "response": YES["content"],
        "rejected_response": NO["content"],
    },
}


@pytest.mark.parametrize("name", SERVICES)
def test_forms_of_training_services_are_read(name: str) -> None:
    pair = understand_row(SERVICES[name])
    assert pair.prompt == [SYSTEM, QUESTION]
    assert (pair.preferred, pair.dispreferred) == (YES["content"], NO["content"])


def test_columns_are_recognized_in_any_case_and_keep_their_names() -> None:
    pairs, reader = understand("Prompt,CHOSEN,Rejected\nIs it?,Yes,No\n", "a.csv")
    assert [(pair.prompt, pair.preferred, pair.dispreferred) for pair in pairs] == [
        ("Is it?", "Yes", "No")
    ]
    assert reader.columns is not None
    assert reader.columns.all() == ("Prompt", "CHOSEN", "Rejected")


def test_two_columns_of_one_name_but_for_case_are_not_guessed_between() -> None:
    assert recognize(["prompt", "Prompt", "Chosen", "rejected"]) is None
