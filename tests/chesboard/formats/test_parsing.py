"""What is understood in an uploaded file, and what is said of a row that is not."""

import gzip
import io
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chesboard.formats.errors import FileTooLargeError, FormatError
from chesboard.formats.known_forms import recognize
from chesboard.formats.mapping import parse_mapping
from chesboard.formats.pair_reader import PairReader
from chesboard.formats.reading import read_rows
from chesboard.formats.rows import PairRow, RowError

MANY_BYTES = 1 << 20
# A busy machine is not a failure.
run_with_retry = settings(deadline=None)


def understand(
    data: bytes | str,
    filename: str = "data.jsonl",
    mapping: str | None = None,
    max_bytes: int = MANY_BYTES,
) -> tuple[list[PairRow], PairReader]:
    """The pairs of a file, and the account that was kept of it."""
    data = data.encode() if isinstance(data, str) else data
    reader = PairReader(parse_mapping(mapping))
    rows = reader.read(read_rows(io.BytesIO(data), filename, max_bytes))
    return [row for row in rows if isinstance(row, PairRow)], reader


def understand_row(row: dict[str, Any]) -> PairRow:
    [pair], _ = understand(json.dumps(row))
    return pair


def why_not(row: Any) -> tuple[str | None, str]:
    """(field, message) of the one row, which is rejected."""
    pairs, reader = understand(json.dumps(row))
    assert pairs == []
    assert reader.rejected == 1
    return reader.errors[0].get("field"), reader.errors[0]["message"]


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


QUESTION = said("user", "Shall we?")
YES, NO = said("assistant", "Yes."), said("assistant", "No.")

# --- the forms --------------------------------------------------------------------------------

FORMS: list[tuple[str, dict[str, Any], str, Any, str, str]] = [
    (
        "text",
        {"prompt": "Shall we?", "chosen": " No.", "rejected": "Never."},
        "text",
        "Shall we?",
        " No.",
        "Never.",
    ),
    (
        "our own words",
        {"prompt": "Shall we?", "preferred": "No.", "dispreferred": "Never."},
        "text",
        "Shall we?",
        "No.",
        "Never.",
    ),
    (
        "chat prompt, text responses",
        {"prompt": [QUESTION], "chosen": "Yes.", "rejected": "No."},
        "chat",
        [QUESTION],
        "Yes.",
        "No.",
    ),
    (
        "chat prompt, chat responses",
        {"prompt": [QUESTION], "chosen": [YES], "rejected": [NO]},
        "chat",
        [QUESTION],
        "Yes.",
        "No.",
    ),
    (
        "chat prompt repeated in the responses",
        {"prompt": [QUESTION], "chosen": [QUESTION, YES], "rejected": [QUESTION, NO]},
        "chat",
        [QUESTION],
        "Yes.",
        "No.",
    ),
    (
        "prompt inside the responses",
        {"chosen": [QUESTION, NO, QUESTION, YES], "rejected": [QUESTION, NO, QUESTION, NO]},
        "chat",
        [QUESTION, NO, QUESTION],
        "Yes.",
        "No.",
    ),
    (
        "text prompt, chat responses",
        {"prompt": "Shall we?", "chosen": [YES], "rejected": [NO]},
        "chat",
        [QUESTION],
        "Yes.",
        "No.",
    ),
    (
        "text prompt that is the first message too",
        {"prompt": "Shall we?", "chosen": [QUESTION, YES], "rejected": [QUESTION, NO]},
        "chat",
        [QUESTION],
        "Yes.",
        "No.",
    ),
    (
        "HH-RLHF",
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Shall we?\n\nAssistant: Yes.",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Shall we?\n\nAssistant: No.",
        },
        "hh-rlhf",
        [said("user", "Hi"), said("assistant", "Hello"), QUESTION],
        "Yes.",
        "No.",
    ),
    (
        "persona",
        {
            "question": "Shall we?",
            "answer_matching_behavior": " Yes",
            "answer_not_matching_behavior": " No",
        },
        "persona",
        "Shall we?",
        "Yes",
        "No",
    ),
]


@pytest.mark.parametrize(
    ("row", "form", "prompt", "preferred", "dispreferred"),
    [case[1:] for case in FORMS],
    ids=[case[0] for case in FORMS],
)
def test_form_is_understood(
    row: dict[str, Any], form: str, prompt: Any, preferred: str, dispreferred: str
) -> None:
    pair = understand_row(row)
    assert (pair.form, pair.prompt) == (form, prompt)
    assert (pair.preferred, pair.dispreferred) == (preferred, dispreferred)


def test_other_columns_and_the_line_are_kept_as_meta() -> None:
    pairs, _ = understand(
        '\n{"prompt": "a", "chosen": "b", "rejected": "c", "source": {"id": 7}, "score": NaN}\n'
    )
    assert pairs[0].meta == {"source": {"id": 7}, "score": None, "row": 2}


def test_first_row_of_a_known_form_decides_for_the_file() -> None:
    pairs, reader = understand(
        '{"prompt": "a", "chosen": "b"}\n'
        '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
        '{"question": "a", "answer_matching_behavior": "b", "answer_not_matching_behavior": "c"}\n'
    )
    assert [pair.row for pair in pairs] == [2]
    assert [(item["row"], item["field"], item["message"]) for item in reader.errors] == [
        (1, "rejected", "is missing"),
        (3, "chosen", "is missing"),
    ]
    assert reader.errors[0]["snippet"] == "prompt: a, chosen: b"


def test_mapping_names_the_columns() -> None:
    pairs, _ = understand(
        '{"q": "a", "good": "b", "bad": "c", "prompt": "of something else"}',
        mapping='{"prompt": "q", "preferred": "good", "dispreferred": "bad"}',
    )
    assert (pairs[0].prompt, pairs[0].preferred, pairs[0].dispreferred) == ("a", "b", "c")
    assert pairs[0].meta["prompt"] == "of something else"


@pytest.mark.parametrize("mapping", ["[]", "{", '{"preferred": "a"}', '{"preferred": 1, "x": 2}'])
def test_mapping_that_is_none_is_refused(mapping: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_mapping(mapping)
    assert all(item["field"].startswith("mapping") for item in caught.value.items)


def test_columns_that_make_up_no_form_are_not_recognized() -> None:
    assert recognize(["prompt", "response", "label"]) is None
    _, reader = understand('{"text": "a", "label": 1}')
    error = reader.why_nothing_is_usable()
    assert "text, label" in str(error)
    assert "mapping" in str(error)


# --- rows that cannot be used -----------------------------------------------------------------

TEXT = {"prompt": "a", "chosen": "b", "rejected": "c"}


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ([1], None, "not a JSON object but a list"),
        (None, None, "not a JSON object but null"),
        ({"prompt": "a", "chosen": "b"}, "rejected", "is missing"),
        (TEXT | {"chosen": None}, "chosen", "is missing"),
        (TEXT | {"prompt": 5}, "prompt", "must be text or a list of chat messages"),
        (TEXT | {"chosen": 5, "rejected": 6}, "chosen", "must be text or a list"),
        (TEXT | {"rejected": [NO]}, "rejected", "same type as chosen"),
        (TEXT | {"prompt": " \n"}, "prompt", "the prompt is empty"),
        (TEXT | {"prompt": []}, "prompt", "at least one"),
        (TEXT | {"prompt": [said("user", "")]}, "prompt", "the prompt is empty"),
        (TEXT | {"prompt": [{"role": "user"}]}, "prompt", "message 1 must have"),
        (TEXT | {"chosen": ""}, "chosen", "the response is empty"),
        (TEXT | {"rejected": "  "}, "rejected", "the response is empty"),
        (TEXT | {"rejected": "b"}, "rejected", "identical"),
        (TEXT | {"chosen": "b\0"}, "chosen", "NUL"),
        (TEXT | {"prompt": "\ud800"}, "prompt", "broken Unicode at character 1"),
        ({"chosen": "b", "rejected": "c"}, "prompt", "is missing, and chosen is no dialogue"),
        ({"chosen": [QUESTION], "rejected": [QUESTION]}, "chosen", "message of the assistant"),
        (
            {"chosen": [QUESTION, YES], "rejected": [said("user", "What?"), NO]},
            "rejected",
            "before the last message",
        ),
        (
            {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes", "rejected": "No"},
            "rejected",
            "must end with a message of the assistant",
        ),
        (
            {"question": 3, "answer_matching_behavior": "b", "answer_not_matching_behavior": "c"},
            "question",
            "must be text",
        ),
    ],
)
def test_unusable_row_says_field_and_reason(row: Any, field: str | None, message: str) -> None:
    found_field, found_message = why_not(row)
    assert found_field == field
    assert message in found_message


def test_only_the_cells_of_the_pair_can_reject_a_row() -> None:
    """What cannot be stored in others is replaced, and the row is kept."""
    pair = understand_row(TEXT | {"note": ["x\0"], "b\0": "\ud800"})
    assert (pair.preferred, pair.meta["note"]) == ("b", ["x\N{SYMBOL FOR NULL}"])
    assert pair.meta["b\N{SYMBOL FOR NULL}"] == "?"


def test_deep_nesting_beside_the_pair_is_cut_off() -> None:
    deep = "[" * 900 + "]" * 900
    [pair], reader = understand(f'{{"prompt": "a", "chosen": "b", "rejected": "c", "x": {deep}}}')
    assert (pair.preferred, reader.rejected) == ("b", 0)
    assert json.dumps(pair.meta["x"]).count("[") == 64


def test_deep_nesting_is_a_row_error() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    _, reader = understand(f'{{"prompt": "a", "chosen": "b", "rejected": "c", "x": {deep}}}')
    assert "nested too deeply" in reader.errors[0]["message"]


def test_broken_lines_are_numbered_and_quoted() -> None:
    good = json.dumps(TEXT).encode()
    pairs, reader = understand(good + b"\n\n{oops\n" + b'{"prompt": "\xff"}\n' + good)
    assert [pair.row for pair in pairs] == [1, 5]
    assert [(item["row"], item["snippet"]) for item in reader.errors] == [
        (3, "{oops"),
        (4, '{"prompt": "\ufffd"}'),
    ]
    assert "not JSON" in reader.errors[0]["message"]
    assert "not UTF-8: byte 13" in reader.errors[1]["message"]


def test_only_the_first_hundred_errors_are_kept_and_all_are_counted() -> None:
    _, reader = understand("nonsense\n" * 250)
    assert (reader.rejected, len(reader.errors)) == (250, 100)


# --- kinds of files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "data"),
    [
        ("a.jsonl", b'{"prompt": "a", "chosen": "\xc3\xa4", "rejected": "c"}'),
        ("a.txt", b'\xef\xbb\xbf{"prompt": "a", "chosen": "\xc3\xa4", "rejected": "c"}\r\n\r\n'),
        ("a.json", b' [{"prompt": "a", "chosen": "\xc3\xa4", "rejected": "c"}]'),
        ("a.csv", b"prompt,chosen,rejected\r\na,\xc3\xa4,c\r\n"),
        ("A.CSV", b'\xef\xbb\xbf"prompt","chosen","rejected"\na,\xc3\xa4,c'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_file_is_read(filename: str, data: bytes, packed: bool) -> None:
    if packed:
        data, filename = gzip.compress(data), f"{filename}.gz"
    pairs, reader = understand(data, filename)
    assert reader.errors == []
    assert [(pair.prompt, pair.preferred, pair.dispreferred) for pair in pairs] == [("a", "ä", "c")]


def test_csv_row_is_named_by_the_line_it_begins_on() -> None:
    pairs, reader = understand(
        b'prompt,chosen,rejected\n"two\nlines",b,c\nshort,b\nx,\xff,c\na,b,c\n', "a.csv"
    )
    assert [(pair.row, pair.prompt) for pair in pairs] == [(2, "two\nlines"), (6, "a")]
    assert [(item["row"], item.get("field")) for item in reader.errors] == [
        (4, None),
        (5, "chosen"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PAR1 and so on", "The Parquet file is damaged"),
        (b"PK\x03\x04 and so on", "The zip archive is damaged"),
        ("\ufeff{}".encode("utf-16-le"), "UTF-16"),
        (gzip.compress(b"{}" * 1000, mtime=0)[:-9], "damaged or incomplete"),
        (b"\x1f\x8bnonsense", "damaged or incomplete"),
        (b"[1, 2", "not JSON"),
        (b"[\xff]", "not UTF-8"),
    ],
)
def test_file_of_another_kind_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        understand(data, "file")


def test_gzipped_bomb_is_stopped_at_the_limit() -> None:
    with pytest.raises(FileTooLargeError):
        understand(gzip.compress(b"\n" * (MANY_BYTES + 1)))


# --- whatever comes ---------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
COLUMN = st.sampled_from(
    ["prompt", "chosen", "rejected", "question", "preferred", "dispreferred", "x"]
) | st.text(max_size=5)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", ""]), "content": JSON | st.text()}
    ),
    max_size=3,
)
ROW = st.dictionaries(COLUMN, JSON | MESSAGES | st.text(), max_size=5)
LINE = st.binary(max_size=60) | (ROW | JSON).map(lambda value: json.dumps(value).encode())


def accounted_for(rows: int, data: bytes, filename: str) -> None:
    pairs, reader = understand(data, filename)
    # A row may make several pairs; none is both a pair's and rejected whole.
    assert len({pair.row for pair in pairs} | {error.row for error in reader.rejections}) == rows
    assert reader.pairs == len(pairs)
    assert reader.rejected == len(reader.rejections)
    for pair in pairs:
        # What is handed on can be stored: UTF-8 without NUL, JSON without NaN.
        texts = json.dumps([pair.prompt, pair.meta, pair.preferred], ensure_ascii=False)
        assert b"\\u0000" not in texts.encode("utf-8")
        json.dumps(pair.meta, allow_nan=False)
        assert pair.preferred != pair.dispreferred


@run_with_retry
@given(st.lists(LINE, max_size=6))
def test_every_line_is_stored_or_rejected_whatever_it_holds(lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b" ") for line in lines]
    # A first line that holds something, so that no magic number or blank makes it another file.
    data = b"\n".join([b"first", *lines])
    accounted_for(1 + sum(bool(line.strip()) for line in lines), data, "data.jsonl")


@run_with_retry
@given(st.lists(ROW | JSON, max_size=6))
def test_every_item_of_an_array_is_stored_or_rejected(items: list[Any]) -> None:
    accounted_for(len(items), json.dumps(items).encode(), "data.json")


@run_with_retry
@given(st.binary(max_size=300), st.sampled_from(["a.jsonl", "a.json", "a.csv", "a", "a.csv.gz"]))
def test_no_bytes_crash_the_reader(data: bytes, filename: str) -> None:
    with suppress(FormatError):  # a file that is none of these, and said to be
        pairs, reader = understand(data, filename)
        assert reader.pairs == len(pairs)
        json.dumps(reader.errors).encode("ascii")


def test_columns_are_listed_as_they_can_be_stored_and_not_without_end() -> None:
    _, reader = understand('{"\\u0000": 1}\n' + "".join(f'{{"c{n}": 1}}\n' for n in range(999)))
    assert reader.found_columns[0] == "\N{SYMBOL FOR NULL}"
    assert len(reader.found_columns) == 200


def test_row_error_is_made_presentable() -> None:
    item = RowError(3, "odd", field="\0", snippet="\ud800" * 999).as_item()
    assert item["field"] == "\N{SYMBOL FOR NULL}"
    assert item["snippet"].startswith("???")
    assert len(item["snippet"]) < 300
