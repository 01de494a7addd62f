"""Columns that say which of two responses is preferred: by name, by sign, by score."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.formats.columns import Columns
from chesboard.formats.errors import FormatError
from chesboard.formats.layouts import restore
from chesboard.formats.mapping import as_mapping, parse_mapping
from chesboard.formats.rows import PairRow
from tests.chesboard.formats.test_candidates import read, sides
from tests.chesboard.formats.test_parsing import NO, QUESTION, YES, understand, why_not

AB = {"prompt": "Shall we?", "response_a": "Yes.", "response_b": "No."}
ONE_TWO = {"prompt": "Shall we?", "response_1": "Yes.", "response_2": "No."}
SIGNED = {"context": [QUESTION], "response1": "Yes.", "response2": "No."}

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "HelpSteer3": ("signed", SIGNED | {"domain": "general", "overall_preference": -2}),
    "HelpSteer2, preference": ("signed", ONE_TWO | {"preference_strength": -1}),
    "winner by letter": ("winner", AB | {"winner": "A"}),
    "winner as a model": ("winner", AB | {"winner": "model_a"}),
    "winner by its column": ("winner", AB | {"better": "response_a"}),
    "winner in words": ("winner", AB | {"preferred": "Response A"}),
    "winner in brackets": ("winner", AB | {"winner": "[[A]]"}),
    "winner by number": ("winner", ONE_TWO | {"preferred_response": 1}),
    "winner by number in text": ("winner", ONE_TWO | {"winner": "1"}),
    "Arena": (
        "arena",
        {
            "model_a": "x",
            "model_b": "y",
            "conversation_a": [QUESTION, YES],
            "conversation_b": [QUESTION, NO],
            "winner": "model_a",
        },
    ),
    "LMSYS": ("arena", AB | {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}),
    "LMSYS, lists of turns": (
        "arena",
        {
            "prompt": '["Shall we?"]',
            "response_a": '["No."]',
            "response_b": '["Yes."]',
            "winner_model_a": "0",
            "winner_model_b": "1",
            "winner_tie": "0",
        },
    ),
    "SafeRLHF": (
        "safe-rlhf",
        {
            "prompt": "Shall we?",
            "response_0": "No.",
            "response_1": "Yes.",
            "better_response_id": 1,
            "safer_response_id": 1,
        },
    ),
    "Stack Exchange": (
        "stack-exchange",
        {"qid": 7, "question": "Shall we?", "response_j": "Yes.", "response_k": "No."},
    ),
    "WebGPT": (
        "webgpt",
        {
            "question": {"dataset": "eli5", "full_text": "Shall we?"},
            "answer_0": "No.",
            "answer_1": "Yes.",
            "score_0": -0.5,
            "score_1": 0.5,
        },
    ),
    "Argilla, with ratings": (
        "text",
        {
            "instruction": "Shall we?",
            "chosen": "Yes.",
            "rejected": "No.",
            "chosen-rating": 5,
            "rejected-rating": 2,
        },
    ),
    "LLaMA-Factory, ShareGPT": (
        "chat",
        {
            "conversations": [{"from": "human", "value": "Shall we?"}],
            "chosen": {"from": "gpt", "value": "Yes."},
            "rejected": {"from": "gpt", "value": "No."},
        },
    ),
    "capitalized": ("text", {"Prompt": "Shall we?", "Chosen": "Yes.", "Rejected": "No."}),
}


@pytest.mark.parametrize("name", FORMS)
def test_preferred_response_is_the_one_that_the_row_names(name: str) -> None:
    form, row = FORMS[name]
    [pair], reader = read(row)
    assert pair.form == form
    assert pair.prompt in ("Shall we?", [QUESTION])
    assert sides([pair]) == [("Yes.", "No.")]
    assert (reader.warnings, reader.notes) == ([], [])
    columns = reader.columns
    assert columns is not None
    assert Columns.from_dict(json.loads(json.dumps(columns.as_dict()))) == columns
    if pair.source != {"reshaped": True}:
        # Written as it came, it is what came.
        assert written(pair, columns) == row


def written(pair: PairRow, columns: Columns, preferred: str | None = None) -> dict[str, Any]:
    cells = restore(
        columns,
        pair.prompt,
        preferred or pair.preferred,
        pair.dispreferred,
        pair.source,
        is_edited=preferred is not None,
    )
    return cells | {name: value for name, value in pair.meta.items() if name != "row"}


@pytest.mark.parametrize(
    "row",
    [
        SIGNED | {"overall_preference": 2},
        AB | {"winner": "b"},
        AB | {"winner": "b", "response_b": " No.\n", "system": "Be brief."},
        ONE_TWO | {"winner": 2},
        {"instruction": "Sort.", "input": "b a", "output_1": "b", "output_2": "a", "preference": 2},
    ],
)
def test_edited_pair_is_written_on_its_own_side(row: dict[str, Any]) -> None:
    [pair], reader = read(row)
    assert reader.columns is not None
    [again], _ = read(written(pair, reader.columns, preferred="Mended."))
    assert sides([again]) == [("Mended.", pair.dispreferred)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (SIGNED | {"overall_preference": 0}, "is 0: neither is preferred"),
        (SIGNED | {"overall_preference": "strong"}, "must be a number"),
        (SIGNED | {"overall_preference": None}, "is missing"),
        (AB | {"winner": "tie"}, "is a tie"),
        (AB | {"winner": "Tie (bothbad)"}, "is a tie"),
        (AB | {"winner": "model_c"}, "names neither response_a nor response_b"),
        (AB | {"winner": 0}, "names neither"),
        (AB | {"winner": True}, "names neither"),
        (ONE_TWO | {"winner": 0}, "names neither"),
        (AB | {"winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1}, "neither is preferred"),
    ],
)
def test_row_that_prefers_neither_is_rejected(row: dict[str, Any], message: str) -> None:
    assert message in why_not(row)[1]


def test_turns_that_part_early_do_not_answer_the_same_prompt() -> None:
    row = {
        "prompt": ["Hi", "Shall we?"],
        "response_a": ["Hello", "Yes."],
        "response_b": ["Hey", "No."],
        "winner_model_a": 1,
        "winner_model_b": 0,
    }
    assert "do not answer the same prompt" in why_not(row)[1]
    [pair], _ = read(row | {"response_b": ["Hello", "No."]})
    assert [turn["content"] for turn in pair.prompt if isinstance(turn, dict)] == [
        "Hi",
        "Hello",
        "Shall we?",
    ]
    assert "number of turns" in why_not(row | {"prompt": ["Hi"]})[1]


@given(st.integers(-3, 3))
def test_sign_says_the_side_and_is_kept(preference: int) -> None:
    pairs, _ = read(SIGNED | {"overall_preference": preference})
    assert len(pairs) == (preference != 0)
    for pair in pairs:
        assert (pair.preferred == "Yes.") == (preference < 0)
        assert pair.meta["overall_preference"] == preference


# --- doubts ------------------------------------------------------------------------------------


def test_safer_response_that_is_not_the_better_one_is_a_doubt() -> None:
    row = FORMS["SafeRLHF"][1]
    pairs, reader = read(row, row | {"safer_response_id": 0})
    assert sides(pairs) == [("Yes.", "No.")] * 2
    [doubt] = reader.warnings
    assert "`safer_response_id` prefers the other response (in row 2)" in doubt


def test_number_for_names_without_numbers_is_a_doubt() -> None:
    pairs, reader = read(AB | {"winner": 2})
    assert sides(pairs) == [("No.", "Yes.")]
    assert "1 is taken for `response_a`" in reader.warnings[0]


# --- mapped ------------------------------------------------------------------------------------

MAPPED = {"prompt": "q", "preferred": "chatgpt", "dispreferred": "claude"}


@pytest.mark.parametrize(
    ("more", "cells"),
    [
        ({"preference": "who"}, {"who": "claude"}),
        ({"preference": "who"}, {"who": 2}),
        ({"preference": "who", "first": "left", "second": "right"}, {"who": "Right"}),
        ({"preference": "who", "first": "0", "second": "1"}, {"who": 1}),
        ({"preference": "who", "first": "0", "second": "1"}, {"who": "1.0"}),
        ({"preference": "who", "first": "false", "second": "true"}, {"who": True}),
        ({"signed_preference": "how"}, {"how": 0.5}),
        ({"preferred_score": "x", "dispreferred_score": "y"}, {"x": -2, "y": -1}),
    ],
)
def test_mapping_says_what_tells_the_preferred_response(
    more: dict[str, str], cells: dict[str, Any]
) -> None:
    row = {"q": "Which?", "chatgpt": "first", "claude": "second"} | cells
    [pair], reader = read(row, mapping=MAPPED | more)
    assert sides([pair]) == [("second", "first")]
    assert reader.columns is not None
    mapping = as_mapping(reader.columns)
    assert mapping == MAPPED | more
    assert parse_mapping(json.dumps(mapping)) == reader.columns


@pytest.mark.parametrize("name", sorted(FORMS.keys() - {"LMSYS, lists of turns"}))
def test_form_is_expressed_by_a_mapping_that_reads_the_same(name: str) -> None:
    [expected], reader = read(FORMS[name][1])
    assert reader.columns is not None
    [pair], _ = read(FORMS[name][1], mapping=as_mapping(reader.columns))
    assert (pair.prompt, *sides([pair])) == (expected.prompt, *sides([expected]))


@pytest.mark.parametrize(
    "mapping",
    [
        {"prompt": "q"},
        {"preferred": "a"},
        {"preferred": "a", "dispreferred": "b", "candidates": "c"},
        {"preferred": "a", "dispreferred": "b", "ratings": "c"},
        {"preferred": "a", "dispreferred": "b", "preference": "c", "signed_preference": "d"},
        {"preferred": "a", "dispreferred": "b", "preference": "c", "first": "1"},
        {"preferred": "a", "dispreferred": "b", "first": "1", "second": "2"},
        {"preferred": "a", "dispreferred": "b", "preferred_score": "c"},
        {"candidates": "a", "ratings": "b", "ranks": "c"},
        {"candidates": "a", "label": "b"},
        {"completion": "a"},
        {"completion": "a", "label": "b", "rating": "c"},
        {"completion": "a", "label": "a"},
    ],
)
def test_mapping_that_means_nothing_is_refused(mapping: dict[str, str]) -> None:
    with pytest.raises(FormatError) as caught:
        parse_mapping(json.dumps(mapping))
    assert caught.value.items


def test_signed_rows_of_a_csv_are_read() -> None:
    data = "prompt,response_1,response_2,preference_strength\nQ,a,b,-1\nQ,c,d,2\nQ,e,f,0\n"
    pairs, reader = understand(data, "a.csv")
    assert sides(pairs) == [("a", "b"), ("d", "c")]
    assert dict(reader.reasons) == {"undecided": 1}
