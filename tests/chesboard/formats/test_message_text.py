"""Chat messages that a table holds as text, whatever printed them and whatever the file's kind."""

import json
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.formats.message_text import parse_messages
from tests.chesboard.formats.test_parsing import (
    NO,
    QUESTION,
    YES,
    said,
    understand,
    understand_row,
    why_not,
)

MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=30)}
    ),
    min_size=1,
    max_size=4,
)


@given(MESSAGES)
def test_json_and_python_and_numpy_prints_give_the_messages(messages: list[dict[str, str]]) -> None:
    assert parse_messages(json.dumps(messages)) == messages
    assert parse_messages(repr(messages)) == messages
    # A table's cells are arrays of objects, which print without commas.
    assert parse_messages(np.array2string(np.array(messages, dtype=object))) == messages


@given(st.text())
def test_other_text_stays_as_it_is(text: str) -> None:
    assert parse_messages(text) == text
    assert parse_messages(f'[{{"role": {text}') == f'[{{"role": {text}'


def test_text_cells_of_messages_are_messages_in_jsonl_too() -> None:
    row = {
        "prompt": QUESTION["content"],
        "chosen": json.dumps([QUESTION, YES]),
        "rejected": repr([QUESTION, NO]),
    }
    pair = understand_row(row)
    assert pair.prompt == [QUESTION]
    assert (pair.preferred, pair.dispreferred) == (YES["content"], NO["content"])


@pytest.mark.parametrize(
    ("escape", "message"), [("\\u0000", "NUL character"), ("\\ud800", "broken Unicode")]
)
@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected", "history"])
def test_escapes_in_a_text_cell_are_checked_as_text_is(
    column: str, escape: str, message: str
) -> None:
    row: dict[str, Any] = {
        "history": "[]",
        "prompt": json.dumps([QUESTION]),
        "chosen": json.dumps([QUESTION, YES]),
        "rejected": json.dumps([QUESTION, NO]),
    }
    assert understand_row(row).prompt == [QUESTION]
    broken = json.dumps([QUESTION, YES]).replace('"content": "', f'"content": "{escape}')
    field, why = why_not(row | {column: broken})
    assert field == column
    assert message in why


def test_a_table_printed_by_numpy_is_read() -> None:
    cells = ["[{'role': 'user', 'content': \"It's 2+2?\"}\n {'role': 'assistant', 'content': %s}]"]
    chosen, rejected = (cells[0] % answer for answer in ('"It\'s 4"', "'It\\'s \"5\"'"))
    table = ["prompt,chosen,rejected", ",".join(
        '"' + cell.replace('"', '""') + '"' for cell in ("It's 2+2?", chosen, rejected)
    )]  # fmt: skip
    pairs, _ = understand("\n".join(table), "a.csv")
    [pair] = pairs
    assert pair.prompt == [said("user", "It's 2+2?")]
    assert (pair.preferred, pair.dispreferred) == ("It's 4", 'It\'s "5"')


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Human", "user"),
        ("human", "user"),
        ("USER", "user"),
        ("Assistant", "assistant"),
        ("model", "assistant"),
        ("AI", "assistant"),
        ("bot", "assistant"),
        ("System", "system"),
        ("observation", "tool"),
        ("critic", "critic"),
    ],
)
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_names_of_roles_are_folded(theirs: str, ours: str, keys: tuple[str, str]) -> None:
    first = dict(zip(keys, (theirs, "Hm."), strict=True))
    pair = understand_row({"prompt": [first, QUESTION], "chosen": [YES], "rejected": [NO]})
    assert pair.prompt[0] == said(ours, "Hm.")


def test_messages_may_come_as_a_struct_of_lists() -> None:
    def struct(*messages: dict[str, str]) -> dict[str, list[str]]:
        return {name: [message[name] for message in messages] for name in ("role", "content")}

    pair = understand_row({"chosen": struct(QUESTION, YES), "rejected": struct(QUESTION, NO)})
    assert pair.prompt == [QUESTION]
    assert (pair.preferred, pair.dispreferred) == (YES["content"], NO["content"])


@pytest.mark.parametrize("write", [json.dumps, repr])
def test_structs_of_lists_and_single_messages_may_come_as_text(write: Any) -> None:
    struct = {"role": ["user"], "content": [QUESTION["content"]]}
    row = {"prompt": write(struct), "chosen": write(YES), "rejected": write(NO)}
    pair = understand_row(row)
    assert pair.prompt == [QUESTION]
    assert (pair.preferred, pair.dispreferred) == (YES["content"], NO["content"])


@pytest.mark.parametrize(
    "text",
    [
        '{"role": "admin", "content": "x"}',
        '[{"from": "Berlin", "to": "Paris"}]',
        '[{"name": "a", "role": "b"}]',
        '{"answer": "x", "role": "user"}',
    ],
)
def test_answers_that_are_objects_stay_text(text: str) -> None:
    assert parse_messages(text) == text


def test_a_system_prompt_that_only_later_rows_have_is_read() -> None:
    rows = [
        {"prompt": "Where is the Prado?", "chosen": "In Madrid.", "rejected": "In Lisbon."},
        {"system": "In one word.", "prompt": "The Louvre?", "chosen": "Paris", "rejected": "Lyon"},
    ]
    pairs, _ = understand("\n".join(map(json.dumps, rows)))
    assert pairs[0].prompt == "Where is the Prado?"
    assert pairs[1].prompt == [said("system", "In one word."), said("user", "The Louvre?")]


def test_excels_first_line_names_the_delimiter() -> None:
    for name in ("a.csv", "a"):
        pairs, reader = understand(
            "sep=;\r\nprompt;chosen;rejected\r\nIce, light?;Yes;No\r\n", name
        )
        assert [(pair.row, pair.prompt, pair.preferred) for pair in pairs] == [
            (3, "Ice, light?", "Yes")
        ]
        assert reader.rejected == 0


def test_openai_s_input_as_text_gives_its_messages() -> None:
    row = {
        "input": json.dumps({"messages": [QUESTION]}),
        "preferred_output": json.dumps([YES]),
        "non_preferred_output": json.dumps([NO]),
    }
    assert understand_row(row).prompt == [QUESTION]
    # A response of this kind is the body of a request that was asked for.
    body = json.dumps({"model": "m", "messages": [QUESTION]})
    assert understand_row({"prompt": "Ask.", "chosen": body, "rejected": "x"}).preferred == body


@given(MESSAGES)
def test_messages_written_twice_or_as_numpy_represents_them(
    messages: list[dict[str, str]],
) -> None:
    assert parse_messages(json.dumps(json.dumps(messages))) == messages
    array = np.array(messages, dtype=object)
    with np.printoptions(threshold=sys.maxsize):
        assert parse_messages(repr(array)) == messages
