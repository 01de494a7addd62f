"""Rows with one response each: paired with another of the same prompt, or told why not."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.formats import unpaired
from chesboard.formats.columns import Columns
from chesboard.formats.errors import FormatError
from chesboard.formats.mapping import as_mapping
from tests.chesboard.formats.test_candidates import read, sides
from tests.chesboard.formats.test_parsing import NO, QUESTION, YES, said


def row(completion: str, label: Any, prompt: Any = "Shall we?", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, "label": label, **more}


FORMS: dict[str, list[dict[str, Any]]] = {
    "TRL": [row("Yes.", True), row("No.", False)],
    "in text": [row("Yes.", "True"), row("No.", "False")],
    "TRL, messages": [
        {"prompt": [QUESTION], "completion": [YES], "label": True},
        {"prompt": [QUESTION], "completion": [NO], "label": False},
    ],
    "LLaMA-Factory": [
        {"instruction": "Shall we?", "input": "", "output": "No.", "kto_tag": False},
        {"instruction": "Shall we?", "input": "", "output": "Yes.", "kto_tag": True},
    ],
    "whole dialogues": [
        {"messages": [QUESTION, YES], "label": True},
        {"messages": [QUESTION, NO], "label": False},
    ],
    "desirable": [
        {"prompt": "Shall we?", "response": "Yes.", "desirable": True},
        {"prompt": "Shall we?", "response": "No.", "desirable": False},
    ],
    "HelpSteer2, ratings": [
        {"prompt": "Shall we?", "response": "No.", "helpfulness": 1, "verbosity": 4},
        {"prompt": "Shall we?", "response": "Yes.", "helpfulness": 3, "verbosity": 1},
    ],
}


@pytest.mark.parametrize("name", FORMS)
def test_two_rows_of_a_prompt_make_a_pair(name: str) -> None:
    [pair], reader = read(*FORMS[name])
    assert pair.prompt in ("Shall we?", [QUESTION])
    assert sides([pair]) == [("Yes.", "No.")]
    assert {pair.meta["row"], pair.meta["dispreferred_row"]} == {1, 2}
    assert (reader.rejected, reader.warnings) == (0, [])
    assert "Each row holds one response" in reader.notes[0]
    assert reader.columns is not None
    assert Columns.from_dict(json.loads(json.dumps(reader.columns.as_dict()))) == reader.columns
    [mapped], _ = read(*FORMS[name], mapping=as_mapping(reader.columns))
    assert (sides([mapped]), mapped.row) == (sides([pair]), pair.row)


def test_kth_desirable_is_paired_with_the_kth_undesirable_and_the_surplus_rejected() -> None:
    labels = [("a", True), ("b", True), ("c", False), ("d", True), ("e", False)]
    pairs, reader = read(*(row(text, label) for text, label in labels))
    assert sides(pairs) == [("a", "c"), ("b", "e")]
    [error] = reader.errors
    assert (error["row"], error["field"]) == (4, "completion")
    assert "no undesirable response to the same prompt left" in error["message"]
    assert dict(reader.reasons) == {"unpaired": 1}


def test_other_context_is_another_prompt() -> None:
    pairs, _ = read(row("Yes.", True, system="Be kind."), row("No.", False, system="Be brief."))
    assert pairs == []
    [pair], _ = read(row("Yes.", True, system="Be kind."), row("No.", False, system="Be kind."))
    assert pair.prompt == [said("system", "Be kind."), QUESTION]
    pairs, _ = read(row("Yes.", True, context="In May."), row("No.", False, context="In June."))
    assert pairs == []


def test_context_of_rated_rows_that_is_not_read_is_a_doubt() -> None:
    rows = [
        {"prompt": "Q", "response": f"{n}", "score": n, "documents": ["In May."]} for n in (1, 2)
    ]
    _, reader = read(*rows)
    assert "`documents`" in reader.warnings[0]


def test_rows_without_a_label_are_rejected() -> None:
    pairs, reader = read(row("Yes.", True), row("Hm.", None), row("Hm.", 7), row("No.", False))
    assert len(pairs) == 1
    assert [item["message"] for item in reader.errors] == ["must be true or false"] * 2


def test_file_in_which_no_prompt_has_both_says_so() -> None:
    _, reader = read(row("Yes.", True), row("Maybe.", True), row("No.", False, prompt="What?"))
    error = str(reader.why_nothing_is_usable())
    assert error.startswith("The rows are unpaired (KTO): one response each (`completion`)")
    assert "no prompt has both" in error


def test_class_number_is_no_label() -> None:
    _, reader = read(row("Yes.", 3), row("No.", 2))
    assert reader.columns is None


def test_label_of_numbers_is_a_doubt() -> None:
    [pair], reader = read(row("No.", 0), row("Yes.", 1))
    assert sides([pair]) == [("Yes.", "No.")]
    assert "1 is taken for a desirable response" in reader.warnings[0]


def test_rated_rows_follow_the_rule() -> None:
    rows = [{"prompt": "Q", "response": f"{n}", "score": n} for n in (2, 5, 5, 1)]
    other = {"prompt": "R", "response": "alone", "score": 2}
    pairs, reader = read(other, *rows)
    assert sides(pairs) == [("5", "1")]
    assert (pairs[0].meta["preferred_rating"], pairs[0].meta["dispreferred_rating"]) == (5, 1)
    assert [item["row"] for item in reader.errors] == [1]
    pairs, _ = read(*rows, pairing="gap:3")
    assert sides(pairs) == [("5", "2"), ("5", "1"), ("5", "2"), ("5", "1")]


def test_rated_rows_that_tie_are_rejected() -> None:
    rows = [{"prompt": "Q", "response": text, "score": 4} for text in "ab"]
    pairs, reader = read(*rows)
    assert (pairs, reader.rejected) == ([], 2)
    assert "different ratings" in str(reader.why_nothing_is_usable())


def test_rows_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpaired, "MAX_HELD_ROWS", 3)
    alternating = [row(f"{n}", n % 2 == 0, prompt=f"{n // 2}") for n in range(40)]
    assert len(read(*alternating)[0]) == 20
    with pytest.raises(FormatError, match=r"Sort the file by prompt"):
        read(*(row("Yes.", True, prompt=f"{n}") for n in range(4)))
    monkeypatch.setattr(unpaired, "MAX_HELD_CHARACTERS", 1000)
    with pytest.raises(FormatError, match="more than are kept in memory"):
        read(row("y" * 1000, True))


@given(st.lists(st.tuples(st.sampled_from("pq"), st.booleans()), min_size=1, max_size=20))
def test_as_many_pairs_as_both_kinds_have_and_every_row_is_accounted_for(
    labels: list[tuple[str, bool]],
) -> None:
    rows = [row(f"{n}", label, prompt=prompt) for n, (prompt, label) in enumerate(labels)]
    pairs, reader = read(*rows)
    kinds = Counter(labels)
    assert len(pairs) == sum(min(kinds[p, True], kinds[p, False]) for p in "pq")
    assert 2 * len(pairs) + reader.rejected == len(rows)
    for prompt in "pq":
        good = [f"{n}" for n, kind in enumerate(labels) if kind == (prompt, True)]
        bad = [f"{n}" for n, kind in enumerate(labels) if kind == (prompt, False)]
        expected = set(zip(good, bad, strict=False))
        assert {side for side in sides(pairs) if side[0] in good} == expected
