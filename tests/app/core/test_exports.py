"""Downloads of rows: every value comes back from both formats."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.exports import export_rows

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ROWS = st.lists(
    st.lists(st.fixed_dictionaries({"pair": st.integers(), "text": TEXT}), max_size=3), max_size=4
)


@given(ROWS)
def test_each_row_is_a_line_whatever_the_parts(parts: list[list[dict[str, Any]]]) -> None:
    rows = [row for part in parts for row in part]
    lines = "".join(export_rows(["pair", "text"], parts, "jsonl"))
    assert [json.loads(line) for line in lines.split("\n")[:-1]] == rows
    table = "".join(export_rows(["pair", "text"], parts, "csv"))
    read = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["pair"].removeprefix("'") for row in read] == [str(row["pair"]) for row in rows]
    assert [row["text"].removeprefix("'") for row in read] == [
        row["text"].removeprefix("'") for row in rows
    ]


def test_columns_stand_in_the_order_that_is_asked_for() -> None:
    [line] = export_rows(["b", "a"], [[{"a": 1, "b": 2}]], "jsonl")
    assert line == '{"b": 2, "a": 1}\n'
    assert "".join(export_rows(["b", "a"], [[{"a": 1, "b": 2}]], "csv")) == "b,a\n2,1\n"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (True, "true"),
        ([1, "é"], '"[1, ""é""]"'),
        ({"a": 1}, '"{""a"": 1}"'),
        (0.5, "0.5"),
    ],
)
def test_csv_writes_what_is_no_text_as_json_does(value: object, cell: str) -> None:
    table = "".join(export_rows(["value", "n"], [[{"value": value, "n": 1}]], "csv"))
    assert table == f"value,n\n{cell},1\n"


def test_without_rows_csv_has_its_header_alone() -> None:
    assert list(export_rows(["pair"], [], "csv")) == ["pair\n"]
    assert list(export_rows(["pair"], [], "jsonl")) == []
