"""How tables of text are written, and that no quotation mark swallows a row without a word."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.formats import csv_rows
from chesboard.formats.errors import FormatError
from chesboard.formats.pair_reader import PairReader
from chesboard.formats.reading import open_rows
from chesboard.formats.rows import PairRow, SourceRow
from tests.chesboard.formats.test_parsing import run_with_retry

HEADER = ["prompt", "chosen", "rejected"]


def read(
    data: bytes | str, filename: str = "a.csv"
) -> tuple[list[tuple[Any, ...]], Any, list[str]]:
    """(the texts of each pair, the rejected rows, the warnings)"""
    data = data.encode() if isinstance(data, str) else data
    opened = open_rows(io.BytesIO(data), filename, 1 << 26)
    reader = PairReader()
    rows = [row for row in reader.read(opened.rows) if isinstance(row, PairRow)]
    pairs = [(row.prompt, row.preferred, row.dispreferred) for row in rows]
    return pairs, reader.errors, list(opened.warnings)


def table(rows: list[list[str]], **dialect: Any) -> str:
    text = io.StringIO()
    csv.writer(text, **dialect).writerows([HEADER, *rows])
    return text.getvalue()


def tsv(*lines: str) -> str:
    return "\n".join(["\t".join(HEADER), *lines]) + "\n"


ROWS = [[f"Q{number}", f"good {number}", f"bad {number}"] for number in range(30)]


def test_raw_quotation_marks_in_a_tsv_swallow_no_rows() -> None:
    lines = ["\t".join(row) for row in ROWS]
    lines[4] = 'Q4\t"Quoted" start\tbad 4'
    lines[7] = 'Q7\t"never closed\tbad 7'
    pairs, errors, warnings = read(tsv(*lines), "a.tsv")
    assert (len(pairs), errors) == (30, [])
    assert pairs[4] == ("Q4", '"Quoted" start', "bad 4")
    assert pairs[7] == ("Q7", '"never closed', "bad 7")
    assert pairs[8] == ("Q8", "good 8", "bad 8")
    assert "2 lines, first line 6: cells begin with a quotation mark" in warnings[0]


def test_raw_quotation_marks_that_close_each_other_swallow_no_rows() -> None:
    lines = ["\t".join(row) for row in ROWS]
    lines[7], lines[9] = 'Q7\t"opened\tbad 7', 'Q9\tgood 9"\tbad 9'
    pairs, errors, warnings = read(tsv(*lines), "a.tsv")
    assert (len(pairs), errors) == (30, [])
    assert pairs[9] == ("Q9", 'good 9"', "bad 9")
    assert warnings


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_a_quote_never_closed_in_a_quoted_table_costs_its_row_only(sign: str) -> None:
    rows = [[f"Q{n}", f"good{sign} {{n}}", "two\nlines"] for n in range(30)]
    lines = table(rows, delimiter=sign, lineterminator="\n")
    broken = lines + f'Q30{sign}"never closed{sign}bad\n' + lines.partition("\n")[2]
    pairs, errors, _ = read(broken)
    assert len(pairs) == 60
    assert [(item["row"], "a quotation mark" in item["message"]) for item in errors] == [(62, True)]


def test_cells_of_many_lines_are_right_and_raise_no_doubt() -> None:
    poem = 'Roses are red,\nviolets are blue,\n\nand commas, too,\nare "quoted" for you,\nhere'
    rows = [[f"{poem} {n}", f"a, {poem}", "b"] for n in range(20)]
    assert read(table(rows)) == ([tuple(row) for row in rows], [], [])


def test_a_later_quote_that_runs_over_rows_is_named_by_its_line() -> None:
    """Beyond what the dialect is decided by."""
    good = "".join(f"Q{n}\tgood {n} {'x' * 60}\tbad {n}\n" for n in range(5000))
    data = tsv() + good + 'Q\t"opened\tbad\n' + good[:2000].rpartition("\n")[0] + "\n"
    pairs, errors, _ = read(data, "a.tsv")
    assert len(pairs) == data.count("\n") - 2
    assert [item["row"] for item in errors] == [5002]
    assert "over lines that are rows themselves" in errors[0]["message"]


def test_backslash_escapes_are_read() -> None:
    data = (
        'prompt,chosen,rejected\n"He said \\"yes, now\\"","C:\\\\temp","no"\n"a","b \\"c\\"","d"\n'
    )
    pairs, errors, warnings = read(data)
    assert pairs == [('He said "yes, now"', "C:\\temp", "no"), ("a", 'b "c"', "d")]
    assert (errors, warnings) == ([], [])


def test_backslashes_that_escape_nothing_stay() -> None:
    data = 'prompt,chosen,rejected\n"a \\"b, c\\"","one\\ntwo","d"\n'
    assert read(data)[0] == [('a "b, c"', "one\\ntwo", "d")]


def test_blanks_between_a_comma_and_a_quote_are_skipped() -> None:
    data = 'prompt, "chosen", "rejected"\na, "b, c", "d"\n'
    assert read(data) == ([("a", "b, c", "d")], [], [])


def test_blanks_behind_every_comma_are_no_part_of_the_cells() -> None:
    assert read("prompt, chosen, rejected\nq, a, b\nr, c, d\n")[0][0] == ("q", "a", "b")
    # In one line they are text: responses often begin with a blank.
    assert read("prompt, chosen, rejected\nq,a,b\nr, c, d\n")[0][1] == ("r", " c", " d")
    assert read("prompt,chosen,rejected\nq, a, b\n")[0] == [("q", " a", " b")]


def test_lines_may_end_with_carriage_returns() -> None:
    assert read("prompt,chosen,rejected\ra,b,c\rd,e,f\r", "table") == (
        [("a", "b", "c"), ("d", "e", "f")],
        [],
        [],
    )


def test_bars_may_separate_cells() -> None:
    assert read("prompt|chosen|rejected\na, b|c|d\n", "table")[0] == [("a, b", "c", "d")]


def test_the_delimiter_that_excel_names_is_taken() -> None:
    assert read("sep=;\nprompt;chosen;rejected\nIs it?;Yes;No\n")[0] == [("Is it?", "Yes", "No")]


def test_a_row_of_another_width_is_named_by_its_line() -> None:
    pairs, errors, _ = read('prompt,chosen,rejected\n"a\nb",c,d\ne,f\ng,h,i,j\n')
    assert len(pairs) == 1
    assert [(item["row"], item["message"]) for item in errors] == [
        (4, "2 cells, but the header names 3 columns"),
        (5, "4 cells, but the header names 3 columns"),
    ]


def test_a_name_that_stands_twice_is_named() -> None:
    with pytest.raises(ValueError, match="names a column twice: 'chosen'"):
        read("prompt,chosen,chosen,rejected\na,b,c,d\n")


def test_windows_1252_is_named_with_the_way_out() -> None:
    pairs, errors, warnings = read(
        "prompt,chosen,rejected\na,b,c\nd,caf\u00e9,f\n".encode("cp1252")
    )
    assert (len(pairs), errors[0]["row"], errors[0]["field"]) == (1, 3, "chosen")
    assert warnings == [
        "Line 3: not UTF-8, perhaps Windows-1252 or Latin-1. Save the file as UTF-8."
    ]


def test_quotation_marks_that_nothing_requires_are_doubtful_in_a_tsv() -> None:
    pairs, _, warnings = read(tsv('a\t"Hello."\tc', "d\te\tf"), "a.tsv")
    assert pairs[0] == ("a", "Hello.", "c")
    assert "quotation marks that nothing requires" in warnings[0]


# --- whatever is written ----------------------------------------------------------------------

CELL = st.text(st.sampled_from("ab ,;\t|\"'\\\n\r\u00e9"), min_size=1, max_size=12).filter(
    lambda cell: bool(cell.strip())
)
TABLE = st.lists(st.tuples(CELL, CELL, CELL).filter(lambda row: row[1] != row[2]), max_size=6)
DIALECT = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t|"),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
        "lineterminator": st.sampled_from(["\n", "\r\n"]),
    }
)
BACKSLASHES = {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL}


def columns_of(data: str) -> tuple[list[list[Any]], int, list[str]]:
    opened = open_rows(io.BytesIO(data.encode()), "a.csv", 1 << 26)
    rows = list(opened.rows)
    read = [list(row.columns.values()) for row in rows if isinstance(row, SourceRow)]
    return read, len(rows) - len(read), list(opened.warnings)


@run_with_retry
@given(TABLE, DIALECT)
def test_a_table_is_read_as_it_was_written_or_it_is_said(
    rows: list[tuple[str, ...]], dialect: dict[str, Any]
) -> None:
    if any("\r" in cell for row in rows for cell in row):
        dialect["lineterminator"] = "\r\n"  # Python 3.12 and before do not quote a bare one, else
    read, rejected, warnings = columns_of(table([list(row) for row in rows], **dialect))
    assert read == [list(row) for row in rows] or rejected or warnings


@run_with_retry
@given(TABLE, st.sampled_from(",;\t|"))
def test_a_table_with_backslashes_is_read_as_it_was_written_or_it_is_said(
    rows: list[tuple[str, ...]], delimiter: str
) -> None:
    # Two backslashes are one only where quotation marks show that backslashes escape.
    rows = [*rows, ('a "quoted" word', "b", "c")]
    written = table([list(row) for row in rows], delimiter=delimiter, **BACKSLASHES)
    read, rejected, warnings = columns_of(written)
    assert read == [list(row) for row in rows] or rejected or warnings


RAW = st.text(st.sampled_from("ab ,\"'\\\u00e9"), min_size=1, max_size=12).filter(
    lambda cell: '""' not in cell  # as no writer that does not quote would have it
)


@run_with_retry
@given(st.lists(st.tuples(RAW, RAW, RAW), max_size=8))
def test_a_tsv_without_quoting_is_read_as_it_was_written_or_it_is_said(
    rows: list[tuple[str, ...]],
) -> None:
    read, rejected, warnings = columns_of(tsv(*map("\t".join, rows)))
    assert read == [list(row) for row in rows] or rejected or warnings


# --- empty lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("line_end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize(
    "before", ["", "prompt,chosen,rejected\n", "prompt,chosen,rejected\na,b,c\n"]
)
def test_a_table_of_empty_lines_is_refused_and_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, line_end: str, before: str
) -> None:
    """Eight megabytes of them took most of a minute."""
    monkeypatch.setattr(csv_rows, "MAX_EMPTY_LINES", 1000)
    file = io.BytesIO(before.encode() + line_end.encode() * (1 << 20))
    with pytest.raises(FormatError, match="more than 1,000 empty lines in a row"):
        list(open_rows(file, "a.csv", 1 << 30).rows)
    assert file.tell() < 1 << 19


def test_as_many_empty_lines_as_may_be_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_EMPTY_LINES", 3)
    pairs, errors, _ = read("\n\n\nprompt,chosen,rejected\r\r\ra,b,c\n\n\nd,e,f\n\n\n")
    assert (pairs, errors) == ([("a", "b", "c"), ("d", "e", "f")], [])
