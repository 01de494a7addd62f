"""No text, however it is written, takes longer to read than in proportion to its length.

A regular expression lets nothing else in its process run: each of these held the whole server, some
of them in a file of a hundred bytes.
"""

import io
import json
import time
from collections.abc import Iterator

import pytest

from chesboard.formats.pair_reader import PairReader
from chesboard.formats.reading import open_rows
from chesboard.formats.rows import PairRow, RowError
from chesboard.formats.sniffing import what_it_is

MANY = 50_000
HEADER = b"prompt,chosen,rejected\n"


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Seconds of the processor: each of these takes milliseconds, and took ten seconds or years."""
    began = time.process_time()
    yield
    assert time.process_time() - began < 2


def read(file: bytes, name: str = "a.jsonl") -> list[PairRow | RowError]:
    return list(PairReader().read(open_rows(io.BytesIO(file), name, 1 << 30).rows))


@pytest.mark.parametrize(
    "text",
    [
        " " * MANY,
        "\n" * MANY,
        "array(" + " " * MANY,
        "[{'role': 'user', 'content': '" + "\\'" * MANY,
        "[{'role': 'user', 'content': \"" + '\\"' * MANY + "\\",
        "[{'role': 'user'}" + " " * MANY,
        "[{'role': 'user'" + "} " * MANY,
    ],
    ids=["blanks", "lines", "array", "quotes", "double quotes", "gap", "gaps"],
)
def test_a_cell_may_begin_with_anything(text: str) -> None:
    [pair] = read(json.dumps({"prompt": "a", "chosen": text + "x", "rejected": "c"}).encode())
    assert isinstance(pair, PairRow)
    assert pair.preferred == text + "x"


@pytest.mark.parametrize("name", ["1" * MANY + "x", "1" * MANY, "rejected_" + "1" * 5000])
def test_a_column_may_be_called_anything(name: str) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected_1": "c", name: "d"}
    [pair] = read(json.dumps(row).encode())
    assert isinstance(pair, PairRow)


@pytest.mark.parametrize(
    "start",
    [
        b"/**/" * 40,
        b"/*" * MANY,
        b"--\n" * MANY,
        b"<!---->" * 40,
        b"<!--" * MANY,
        b"|a|\n|" + b"-" * MANY,
        b"|a|\n|" + b"|" * MANY,
    ],
)
@pytest.mark.parametrize("end", [b"", b"x"])
def test_a_file_may_begin_with_anything(start: bytes, end: bytes) -> None:
    assert what_it_is(start + end, "a.jsonl") is None


def test_what_other_files_begin_with_is_still_known() -> None:
    assert "SQL" in str(what_it_is(b"-- a\n/* b */;\n/* c */ CREATE TABLE d", "a.jsonl"))
    assert "HTML" in str(what_it_is(b"<?xml?> <!-- a --> <!-- b -->\n<html>", "a.jsonl"))
    assert "Markdown" in str(what_it_is(b"| a | b |\n|:-:| - |\n", "a.jsonl"))


@pytest.mark.parametrize("sign", [b",", b'"', b'",', b'" ', b"\\"])
def test_a_line_of_a_table_may_hold_anything(sign: bytes) -> None:
    read(HEADER + b'x"' + sign * MANY + b"\na,b,c\n", "a.csv")
