"""Rows that hold several responses: which pairs they make, and what is told of it."""

import ast
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.formats import message_text
from chesboard.formats.columns import Columns
from chesboard.formats.mapping import as_mapping, parse_mapping
from chesboard.formats.pair_reader import PairReader
from chesboard.formats.pairing import Pairing, parse_pairing
from chesboard.formats.rows import PairRow, RowError, SourceRow
from tests.chesboard.formats.test_parsing import (
    NO,
    QUESTION,
    YES,
    said,
    understand,
    why_not,
)

MAYBE = said("assistant", "Maybe.")
RATED: dict[str, Any] = {
    "source": "made up",
    "instruction": "Shall we?",
    "completions": [
        {"model": "a", "response": "Maybe.", "overall_score": 6.0, "critique": "Vague."},
        {"model": "b", "response": "Yes.", "overall_score": 8.5},
        {"model": "c", "response": "No.", "overall_score": 2},
    ],
}


def read(
    *rows: dict[str, Any], pairing: str | None = None, mapping: dict[str, str] | None = None
) -> tuple[list[PairRow], PairReader]:
    reader = PairReader(
        parse_mapping(json.dumps(mapping)) if mapping else None, parse_pairing(pairing)
    )
    found = list(reader.read(SourceRow(n, row) for n, row in enumerate(rows, start=1)))
    return [row for row in found if isinstance(row, PairRow)], reader


def sides(pairs: list[PairRow]) -> list[tuple[str, str]]:
    return [(pair.preferred, pair.dispreferred) for pair in pairs]


# --- the forms ---------------------------------------------------------------------------------

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "UltraFeedback": ("rated", RATED),
    "UltraFeedback, as a struct of lists": (
        "rated",
        {
            "instruction": "Shall we?",
            "completions": {"response": ["Maybe.", "Yes.", "No."], "overall_score": [6, 8.5, 2]},
        },
    ),
    "distilabel": (
        "rated",
        {
            "instruction": "Shall we?",
            "generations": ["No.", "Maybe.", "Yes."],
            "ratings": [1.0, 2.0, 5.0],
            "generation_models": ["a", "b", "c"],
        },
    ),
    "parallel lists in text": (
        "rated",
        {
            "prompt": "Shall we?",
            "responses": '["No.", "Yes."]',
            "scores": "[-1.5, 0.25]",
        },
    ),
    "objects with rewards": (
        "rated",
        {
            "question": "Shall we?",
            "candidates": [{"text": "No.", "reward": -3}, {"text": "Yes.", "reward": -2}],
        },
    ),
    "Nectar": (
        "ranked",
        {
            "prompt": "Shall we?",
            "answers": [
                {"answer": "No.", "model": "x", "rank": 7},
                {"answer": "Yes.", "model": "y", "rank": 1},
                {"answer": "Maybe.", "model": "z", "rank": 3.5},
            ],
        },
    ),
    "ranks beside": (
        "ranked",
        {"prompt": "Shall we?", "answers": ["Yes.", "No.", "Maybe."], "ranks": [1, 3, 2]},
    ),
    "summaries, the better one's position": (
        "ranked",
        {
            "info": {"id": "t3", "post": "Shall we?", "title": "On us"},
            "summaries": [{"text": "No.", "policy": "sup"}, {"text": "Yes.", "policy": "ppo"}],
            "choice": 1,
        },
    ),
    "LLaMA-Factory, older": (
        "ranked",
        {"instruction": "Shall we?", "input": "", "output": ["Yes.", "No."]},
    ),
    "any case": (
        "rated",
        {
            "Instruction": "Shall we?",
            "Completions": [{"response": "No.", "score": 1}, {"response": "Yes.", "score": 2}],
        },
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_best_and_worst_make_a_pair(name: str) -> None:
    form, row = FORMS[name]
    [pair], reader = read(row)
    assert (pair.form, pair.prompt) == (form, "Shall we?")
    assert sides([pair]) == [("Yes.", "No.")]
    assert "Each row holds" in reader.notes[0]
    assert reader.warnings == []
    assert reader.columns is not None
    stored = json.loads(json.dumps(reader.columns.as_dict()))
    assert Columns.from_dict(stored) == reader.columns


def test_candidates_that_are_messages_are_read_with_the_context_of_the_row() -> None:
    row = {
        "system": "Be brief.",
        "prompt": [QUESTION],
        "responses": [[NO], [YES]],
        "scores": [0, 1],
    }
    [pair], _ = read(row)
    assert pair.prompt == [said("system", "Be brief."), QUESTION]
    assert sides([pair]) == [("Yes.", "No.")]


def test_whole_dialogues_as_candidates_need_no_prompt() -> None:
    [pair], _ = read({"completions": [[QUESTION, NO], [QUESTION, YES]], "rewards": [0.1, 0.7]})
    assert (pair.prompt, *sides([pair])) == ([QUESTION], ("Yes.", "No."))


def test_input_of_an_instruction_belongs_to_the_prompt() -> None:
    [pair], _ = read({"instruction": "Sort.", "input": "b a", "output": ["a b", "b"]})
    assert pair.prompt == "Sort.\n\nb a"


def test_pair_keeps_row_ratings_and_models() -> None:
    [pair], _ = read(RATED)
    assert pair.meta == {
        "row": 1,
        "source": "made up",
        "preferred_rating": 8.5,
        "preferred_model": "b",
        "dispreferred_rating": 2.0,
        "dispreferred_model": "c",
    }
    [pair], _ = read(FORMS["Nectar"][1])
    assert (pair.meta["preferred_rank"], pair.meta["dispreferred_rank"]) == (1, 7)


def test_lists_that_numpy_printed_without_commas_are_read() -> None:
    printed = "[{'answer': 'No.', 'rank': 2}\n {'answer': 'Yes.', 'rank': 1}]"
    assert sides(read({"prompt": "Shall we?", "answers": printed})[0]) == [("Yes.", "No.")]


def test_a_list_in_text_is_parsed_once_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse(text: str) -> Any:
        parsed.append(text)
        return ast.literal_eval(text)

    monkeypatch.setattr(message_text, "ast", SimpleNamespace(literal_eval=parse))
    responses, scores = str(["Not now.", "Right now."]), str([0.25, (0.5)])
    # Python's print of text; the scores are JSON too.
    [pair], _ = read({"prompt": "Shall we?", "responses": responses, "scores": scores})
    assert sides([pair]) == [("Right now.", "Not now.")]
    assert parsed == [responses]


def test_a_long_list_in_text_is_read_as_json_only() -> None:
    """Python's parser would take minutes and gigabytes for it."""
    long = ["No." * message_text.MAX_PRINTED_CHARACTERS, "Yes."]
    row = {"prompt": "Shall we?", "responses": json.dumps(long), "scores": [0, 1]}
    [pair], _ = read(row)
    assert pair.preferred == "Yes."
    pairs, reader = read(row, row | {"responses": str(long)})
    assert len(pairs) == 1
    [error] = reader.rejections
    assert (error.field, error.row) == ("responses", 2)
    assert "as JSON only" in error.message


# --- the rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, [("Yes.", "No.")]),
        ("best_worst", [("Yes.", "No.")]),
        ("best_rest", [("Yes.", "Maybe."), ("Yes.", "No.")]),
        ("all", [("Maybe.", "No."), ("Yes.", "Maybe."), ("Yes.", "No.")]),
        ("gap:4", [("Maybe.", "No."), ("Yes.", "No.")]),
    ],
)
def test_rule_decides_which_pairs_a_row_makes(
    rule: str | None, expected: list[tuple[str, str]]
) -> None:
    pairs, reader = read(RATED, RATED, pairing=rule)
    assert sides(pairs) == expected * 2
    assert [pair.row for pair in pairs] == [1] * len(expected) + [2] * len(expected)
    assert reader.pairs == len(pairs)
    assert str(reader.pairing) == (rule or "best_worst")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [1, 1]}, "no two responses whose ratings differ"),
        ({"scores": [1, None]}, "1 of them with a rating"),
        ({"scores": [1, "n/a"]}, "1 of them with a rating"),
        ({"scores": [1, True]}, "1 of them with a rating"),
        ({"scores": [2, float("nan")]}, "1 of them with a rating"),
        ({"responses": ["Yes."]}, "has 2 values for the 1 responses"),
        ({"responses": []}, "list of responses"),
        ({"responses": None}, "is missing"),
        ({"responses": ["", "No."]}, "is empty"),
        ({"responses": ["No.", "No."]}, "identical"),
    ],
)
def test_row_without_a_preference_is_rejected(change: dict[str, Any], message: str) -> None:
    good = {"prompt": "Shall we?", "responses": ["Yes.", "No."], "scores": [2, 1]}
    pairs, reader = read(good, good | change)
    assert len(pairs) == 1
    [error] = reader.errors
    assert (error["row"], message in error["message"]) == (2, True), error
    assert error["field"] in ("responses", "scores")


def test_response_without_a_rating_is_left_out_and_counted() -> None:
    row = {"prompt": "Shall we?", "responses": ["Yes.", "No.", "Hm."], "scores": [2, 1, None]}
    pairs, reader = read(row, pairing="all")
    assert sides(pairs) == [("Yes.", "No.")]
    assert "1 response without a rating is left out." in reader.notes


def test_gap_needs_ratings() -> None:
    _, reader = read({"instruction": "Q", "output": ["a", "b"]}, pairing="gap:1")
    assert "no ratings" in reader.errors[0]["message"]


def test_rule_without_lists_is_said_to_have_no_effect() -> None:
    _, reader = read({"prompt": "a", "chosen": "b", "rejected": "c"}, pairing="all")
    assert "no effect" in reader.notes[0]
    assert reader.pairing is None


def test_row_that_would_make_a_flood_of_pairs_is_rejected() -> None:
    row = {"prompt": "a", "responses": [f"{n}" for n in range(200)], "scores": list(range(200))}
    pairs, reader = read(row, pairing="all")
    assert pairs == []
    assert "19,900 pairs" in reader.errors[0]["message"]
    assert len(read(row)[0]) == 1


# --- several rejected --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Shall we?", "chosen": "Yes.", "rejected": ["No.", "Maybe."]},
        {"prompt": "Shall we?", "chosen": ["Yes."], "rejected": ["No.", "Maybe."]},
        {"prompt": "Shall we?", "chosen": "Yes.", "rejected": '["No.", "Maybe."]'},
        {"prompt": "Shall we?", "chosen": "Yes.", "rejected_1": "No.", "rejected_2": "Maybe."},
        {"prompt": "Shall we?", "chosen": "Yes.", "rejected1": "No.", "rejected2": "Maybe."},
        {"prompt": "Shall we?", "chosen": [YES], "rejected": [[NO], [MAYBE]]},
        {"chosen": [QUESTION, YES], "rejected": [[QUESTION, NO], [QUESTION, MAYBE]]},
    ],
)
def test_chosen_makes_a_pair_with_each_rejected(row: dict[str, Any]) -> None:
    pairs, reader = read(row)
    assert sides(pairs) == [("Yes.", "No."), ("Yes.", "Maybe.")]
    assert {pair.row for pair in pairs} == {1}
    assert "each dispreferred one" in reader.notes[0]


def test_row_whose_every_pair_is_unusable_is_rejected_once() -> None:
    pairs, reader = read(
        {"prompt": "Shall we?", "chosen": "Yes.", "rejected": ["Yes.", "Yes."]},
        {"prompt": "Shall we?", "chosen": "Yes.", "rejected": ["No.", "Yes."]},
    )
    assert [(pair.row, pair.dispreferred) for pair in pairs] == [(2, "No.")]
    assert [error.row for error in reader.rejections] == [1, 2]


def test_third_rejected_column_that_a_later_row_brings_is_read() -> None:
    first = {"prompt": "Q", "chosen": "a", "rejected_1": "b", "rejected_2": None}
    pairs, _ = read(first, first | {"rejected_3": "d"})
    assert sides(pairs) == [("a", "b"), ("a", "b"), ("a", "d")]


def test_messages_are_no_list_of_responses() -> None:
    pairs, reader = read({"chosen": [QUESTION, YES], "rejected": [QUESTION, NO]})
    assert (sides(pairs), reader.notes) == ([("Yes.", "No.")], [])


# --- doubts ------------------------------------------------------------------------------------


def test_prompts_that_the_responses_were_made_with_are_a_doubt() -> None:
    items = [item | {"custom_system_prompt": "Be kind."} for item in RATED["completions"]]
    _, reader = read(RATED | {"completions": items})
    assert "`custom_system_prompt`" in reader.warnings[0]


def test_context_that_is_not_read_is_counted_once_a_row() -> None:
    _, reader = read(RATED | {"documents": ["In May."]}, pairing="all")
    assert "`documents`" in reader.warnings[0]
    assert "(in row 1)" in reader.warnings[0]


def test_ranking_may_be_an_order_which_is_a_doubt() -> None:
    _, reader = read({"prompt": "Q", "answers": ["a", "b"], "ranking": [1, 2]})
    assert "`ranking` is read as the rank" in reader.warnings[0]


def test_position_of_the_best_may_be_counted_from_one_which_is_a_doubt() -> None:
    [pair], reader = read({"prompt": "Q", "answers": ["a", "b"], "choice": 1})
    assert sides([pair]) == [("b", "a")]
    assert "counted from 0" in reader.warnings[0]
    _, reader = read(*[{"prompt": "Q", "answers": ["a", "b"], "choice": n} for n in (0, 2, 0.5)])
    assert [error["row"] for error in reader.errors] == [2, 3]


def test_list_without_anything_that_says_the_better_one_is_no_form() -> None:
    _, reader = read({"prompt": "Q", "responses": ["a", "b"]})
    error = str(reader.why_nothing_is_usable())
    assert "`overall_score`" in error
    assert "`mapping`" in error


# --- mapped ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"response": "say", "ratings": "stars.help"}, ("b", "a")),
        ({"response": "say", "ranks": "place"}, ("a", "b")),
        ({"response": "say"}, ("a", "b")),
        ({"response": "say", "best": "winner"}, ("b", "a")),
        ({"response": "say", "ratings": "points"}, ("b", "a")),
    ],
)
def test_mapping_says_what_a_list_holds(mapping: dict[str, str], expected: tuple[str, str]) -> None:
    items = [
        {"say": "a", "stars": {"help": 1}, "place": 1},
        {"say": "b", "stars": {"help": 4}, "place": 2},
    ]
    row = {"ask": {"text": "Q"}, "options": items, "winner": 1, "points": [3, 30]}
    whole = {"prompt": "ask.text", "candidates": "options"} | mapping
    [pair], reader = read(row, mapping=whole)
    assert (pair.prompt, *sides([pair])) == ("Q", expected)
    assert reader.columns is not None
    assert as_mapping(reader.columns) == whole


# --- whatever the lists hold -------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.text(), st.none() | st.integers(0, 5)), max_size=5),
    st.sampled_from(
        [Pairing("best_worst"), Pairing("best_rest"), Pairing("all"), Pairing("gap", 2)]
    ),
)
def test_a_pair_prefers_the_higher_rating_or_the_row_is_rejected(
    responses: list[tuple[str, int | None]], pairing: Pairing
) -> None:
    row = {
        "prompt": "Q",
        "completions": [{"response": text, "score": score} for text, score in responses],
    }
    first = {"prompt": "Q", "completions": [{"response": n, "score": int(n)} for n in "01"]}
    reader = PairReader(pairing=pairing)
    found = list(reader.read([SourceRow(1, first), SourceRow(2, row)]))
    of_row = [pair for pair in found if pair.row == 2]
    assert of_row
    for pair in of_row:
        if isinstance(pair, RowError):
            continue
        ratings = pair.meta["preferred_rating"], pair.meta["dispreferred_rating"]
        assert ratings[0] - ratings[1] >= (pairing.gap or 1)
        assert (pair.preferred, ratings[0]) in responses
        assert (pair.dispreferred, ratings[1]) in responses


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda x: (
            st.lists(x) | st.dictionaries(st.sampled_from(["response", "score", "role", "x"]), x)
        ),
        max_leaves=8,
    )
)
def test_no_cell_crashes_the_reader(cell: Any) -> None:
    for name in ("completions", "scores", "rejected", "chosen", "output"):
        row = {"prompt": "Q", "completions": ["a", "b"], "scores": [1, 2], name: cell}
        pairs, reader = read(row)
        assert pairs or reader.rejected


def test_rows_of_a_file_are_understood() -> None:
    pairs, _ = understand(json.dumps([RATED]), "rated.json")
    assert sides(pairs) == [("Yes.", "No.")]
    assert why_not({"instruction": "Q", "completions": [], "x": 1})
