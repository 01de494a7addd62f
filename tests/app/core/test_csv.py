"""CSV lines of exports, and the guard against formulas in them."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.csv import FORMULA_SIGNS, csv_line, guard_formula


@pytest.mark.parametrize("sign", FORMULA_SIGNS)
def test_text_that_a_spreadsheet_would_evaluate_gets_an_apostrophe(sign: str) -> None:
    assert guard_formula(f"{sign}1+1") == f"'{sign}1+1"


@pytest.mark.parametrize("cell", [-1, -0.5, None, True, "", "1=1", "a-b", "'=1"])
def test_numbers_and_other_text_stay_as_they_are(cell: object) -> None:
    assert guard_formula(cell) is cell


def test_a_line_is_quoted_where_needed_and_none_is_empty() -> None:
    assert csv_line(["a,b", None, -1.5, 'say "no"', "=1"]) == '"a,b",,-1.5,"say ""no""",\'=1\n'


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=2))
def test_a_line_is_read_back_as_written(cells: list[str]) -> None:
    [row] = csv.reader(io.StringIO(csv_line(cells), newline=""))
    assert row == [guard_formula(cell) for cell in cells]
