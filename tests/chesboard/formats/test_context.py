"""Context that is not read is named: every word of a row is in its pair, or in a warning."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chesboard.formats.test_parsing import NO, QUESTION, TEXT, YES, said, understand

CHAT = {"prompt": [QUESTION], "chosen": [YES], "rejected": [NO]}


def warnings_of(*rows: dict[str, Any]) -> list[str]:
    _, reader = understand("\n".join(map(json.dumps, rows)))
    assert reader.rejected == 0
    return reader.warnings


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (TEXT | {"history": [["Hi", "Hello"]]}, "history"),
        (TEXT | {"context": "The museum is in Madrid."}, "context"),
        (TEXT | {"Input": "A list."}, "Input"),
        (TEXT | {"messages": [said("user", "Earlier.")]}, "messages"),
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
