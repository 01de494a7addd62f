"""Context that is not read is named: every word of a row is in its pair, or in a warning."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.formats.mapping import as_mapping
from tests.chesboard.formats.test_parsing import NO, QUESTION, TEXT, YES, said, understand

CHAT = {"prompt": [QUESTION], "chosen": [YES], "rejected": [NO]}


def warnings_of(*rows: dict[str, Any]) -> list[str]:
    _, reader = understand("\n".join(map(json.dumps, rows)))
    assert reader.rejected == 0
    return reader.warnings


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (TEXT | {"history": "They said hello."}, "history"),
        (TEXT | {"history": [["Hello", None]]}, "history"),
        (TEXT | {"context": "The museum is in Madrid."}, "context"),
        (TEXT | {"Input": "A list."}, "Input"),
        (TEXT | {"messages": [said("user", "Earlier.")]}, "messages"),
        (TEXT | {"previous_turns": [["Hello", "Hi"]]}, "previous_turns"),
        (TEXT | {"initial_reason_steps": "First, this."}, "initial_reason_steps"),
        (TEXT | {"image_path": "a.png"}, "image_path"),
        (TEXT | {"info": {"id": 3, "context": "They met."}}, "info.context"),
        (TEXT | {"parent_id": "t3_x"}, "parent_id"),
        (TEXT | {"tools": [{"name": "search", "description": "Finds."}]}, "tools"),
        (CHAT | {"chosen": [YES | {"reasoning_content": "Hm."}]}, "reasoning_content"),
        (CHAT | {"prompt": [QUESTION | {"tool_calls": [{"id": 1}]}]}, "tool_calls"),
    ],
)
def test_what_is_not_read_is_named_with_its_rows(row: dict[str, Any], name: str) -> None:
    plain = CHAT if row["prompt"] != TEXT["prompt"] else TEXT
    [warning] = warnings_of(plain, row, row)
    assert f"`{name}`" in warning
    assert "in 2 rows, the first is 2" in warning


@pytest.mark.parametrize(
    "row",
    [
        TEXT,
        CHAT,
        TEXT | {"system": "Be brief."},
        TEXT | {"history": [], "context": "", "tools": None},
        TEXT | {"id": 3, "score": 0.5, "source": "web", "input_tokens": 7},
        # The dialogue once more, as several public datasets have it.
        CHAT | {"messages": [QUESTION, YES]},
        {
            "instruction": "Sort.",
            "input": "b a",
            "output_1": "a b",
            "output_2": "b",
            "preference": 1,
        },
    ],
)
def test_what_is_read_or_no_context_gives_no_warning(row: dict[str, Any]) -> None:
    assert warnings_of(row) == []


WORD = st.text(alphabet="abcdefgh", min_size=5, max_size=9)


@given(
    st.dictionaries(st.sampled_from(["system", "input", "history", "context", "messages"]), WORD)
)
def test_every_word_of_a_row_is_in_its_pair_or_in_a_warning(more: dict[str, str]) -> None:
    row = {"prompt": "Is it?", "chosen": "Yes", "rejected": "No"} | more
    pairs, reader = understand(json.dumps(row))
    [pair] = pairs
    read = json.dumps(pair.prompt)
    for name, word in more.items():
        assert word in read or any(f"`{name}`" in warning for warning in reader.warnings)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"meta": {"dialog": [said("user", "Earlier.")]}}, "meta.dialog"),
        ({"extra_info": {"raw": {"turns": [said("system", "Be brief.")]}}}, "extra_info.raw.turns"),
        ({"kept": [said("user", "Earlier.")]}, "kept"),
        ({"kept": json.dumps([said("user", "Earlier.")])}, "kept"),
        ({"sys_prompt": "Be brief."}, "sys_prompt"),
        ({"Chat History": "They met."}, "Chat History"),
        ({"images": [{"bytes": None, "path": "a.png"}]}, "images"),
        ({"question": "And why?"}, "question"),
        ({"messages": "[{'role': 'user', 'content': 'Earlier.'}]"}, "messages"),
    ],
)
def test_prompts_of_any_place_and_name_are_named(more: dict[str, Any], name: str) -> None:
    [warning] = warnings_of(TEXT, TEXT | more)
    assert (
        f"The column `{name}` looks like part of the prompt, but is not read (in row 2)" in warning
    )


@pytest.mark.parametrize(
    "more",
    [
        {"meta": {"dialog": [said("user", "a"), said("assistant", "b")]}},
        {"chosen_by_another": [said("user", "a"), said("assistant", "Other.")]},
        {"messages": json.dumps([said("user", "a"), said("assistant", "c")])},
        {"prompt_id": "x7", "num_messages": 3, "category": "question", "extra_info": {"index": 1}},
        # Asked of a judge of the responses.
        {"labelling_prompt": [said("system", "You rate answers."), said("user", "Rate these.")]},
    ],
)
def test_what_the_pair_holds_or_others_answered_gives_no_warning(more: dict[str, Any]) -> None:
    assert warnings_of(TEXT | more) == []


def test_texts_that_begin_like_messages_and_are_none_are_named() -> None:
    [warning] = warnings_of(TEXT | {"prompt": '[{"role": "user", "content": "Hi'})
    assert "`prompt` begins like a list of chat messages, but cannot be parsed" in warning


def test_a_column_that_is_read_only_in_part_is_named() -> None:
    prompt = [said("system", "Be brief."), QUESTION]
    [warning] = warnings_of(CHAT | {"prompt": prompt, "system": "Be kind."})
    assert "`system`" in warning


def test_what_stands_beside_the_text_of_a_prompt_is_named() -> None:
    row = TEXT | {"prompt": {"text": "a", "system": "Be brief.", "id": 3}}
    pairs, reader = understand(json.dumps(row))
    assert pairs[0].prompt == "a"
    [warning] = reader.warnings
    assert "`prompt.system` looks like part of the prompt" in warning


@pytest.mark.parametrize("role", ["developer", "narrator", "function_call"])
def test_roles_that_templates_do_not_know_are_named(role: str) -> None:
    [warning] = warnings_of(CHAT | {"prompt": [said(role, "They meet."), QUESTION]})
    assert f"the role `{role}`" in warning


def test_a_mapping_names_the_context_of_columns_that_no_form_has() -> None:
    row = {"q": "And Italy?", "good": "Rome.", "bad": "Milan.", "before": [["France?", "Paris."]]}
    roles = {"prompt": "q", "preferred": "good", "dispreferred": "bad", "history": "before"}
    [pair], reader = understand(json.dumps(row), mapping=json.dumps(roles))
    earlier = [said("user", "France?"), said("assistant", "Paris.")]
    assert pair.prompt == [*earlier, said("user", "And Italy?")]
    assert reader.columns is not None
    assert as_mapping(reader.columns) == roles

    row = {"q": "Sort.", "good": "a b", "bad": "b a", "what": "b a"}
    roles = {"prompt": "q", "preferred": "good", "dispreferred": "bad", "context": "what"}
    [pair], _ = understand(json.dumps(row), mapping=json.dumps(roles))
    assert pair.prompt == "Sort.\n\nb a"
