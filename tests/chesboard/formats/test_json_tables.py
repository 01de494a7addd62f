"""Tables in one JSON object, objects one after another, and what is said of other objects."""

import io
import json
from typing import Any

import pytest

from chesboard.formats import json_documents
from chesboard.formats.errors import FormatError
from chesboard.formats.pair_reader import PairReader
from chesboard.formats.reading import Opened, open_rows
from chesboard.formats.repeated_keys import MAX_KEYS
from chesboard.formats.rows import PairRow
from tests.chesboard.formats.test_parsing import understand

ROWS = [
    {"prompt": "Where is the Prado?", "chosen": "In Madrid.", "rejected": "In Lisbon."},
    {"prompt": "Is ice light?", "chosen": "Yes.", "rejected": "No."},
]
PAIRS = [tuple(row.values()) for row in ROWS]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
BY_INDEX = {str(number): row for number, row in enumerate(ROWS)}
NAMED_INDEX = {f"row {number}": row for number, row in enumerate(ROWS)}
BY_COLUMN = {name: dict(enumerate(cells)) for name, cells in COLUMNS.items()}
SPLIT = {"columns": list(COLUMNS), "index": [0, 1], "data": [list(pair) for pair in PAIRS]}
TABLE = {
    "schema": {"fields": [{"name": "index", "type": "integer"}], "pandas_version": "1.4.0"},
    "data": [{"index": number, **row} for number, row in enumerate(ROWS)],
}
VIEWER = {
    "features": [{"feature_idx": 0, "name": "prompt", "type": {"dtype": "string"}}],
    "rows": [
        {"row_idx": number, "row": row, "truncated_cells": []} for number, row in enumerate(ROWS)
    ],
    "num_rows_total": 2,
    "partial": False,
}
SPLITS = {"train": ROWS, "test": ROWS[:1]}


def opened(value: Any, member: str | None = None, filename: str = "a.json") -> Opened:
    data = value if isinstance(value, str) else json.dumps(value)
    return open_rows(io.BytesIO(data.encode()), filename, 1 << 26, member=member)


def pairs_of(value: Any, member: str | None = None, filename: str = "a.json") -> list[Any]:
    rows = PairReader().read(opened(value, member, filename).rows)
    return [
        (row.prompt, row.preferred, row.dispreferred) for row in rows if isinstance(row, PairRow)
    ]


@pytest.mark.parametrize(
    "value",
    [
        ROWS,
        COLUMNS,
        SPLIT,
        BY_COLUMN,
        BY_INDEX,
        NAMED_INDEX,
        TABLE,
        VIEWER,
        {"data": COLUMNS},
        {"train": COLUMNS},
        {"data": SPLIT},
        {"version": 1, "info": {"license": "MIT"}, "data": ROWS},
        {"result": {"rows": ROWS}},
    ],
    ids=[
        *("rows", "columns", "split", "by column", "by index", "by named index", "table"),
        *("viewer", "columns in data", "columns in train", "split in data", "data", "result.rows"),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("filename", ["a.json", "a"])
def test_rows_are_read_however_the_table_stands(value: Any, indent: int | None, filename: str):
    assert pairs_of(json.dumps(value, indent=indent), filename=filename) == PAIRS


@pytest.mark.parametrize("limit", [1 << 20, 40])
def test_splits_are_named_and_one_is_chosen(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Whether the object is held in memory or streamed."""
    monkeypatch.setattr(json_documents, "MAX_HELD_BYTES", limit)
    with pytest.raises(FormatError, match=r"several tables.*train, test") as caught:
        pairs_of(SPLITS)
    assert [(item["snippet"], item["message"]) for item in caught.value.items] == [
        ("train", "2 rows"),
        ("test", "1 row"),
    ]
    assert pairs_of(SPLITS, "train") == PAIRS
    assert pairs_of(SPLITS, "test") == PAIRS[:1]
    with pytest.raises(FormatError, match="holds no 'dev'"):
        pairs_of(SPLITS, "dev")


def test_splits_by_columns_are_members_too() -> None:
    value = {"train": COLUMNS, "test": {name: cells[:1] for name, cells in COLUMNS.items()}}
    assert pairs_of(value, "test") == PAIRS[:1]
    with pytest.raises(FormatError, match="train, test"):
        pairs_of(value)


def test_lists_beside_the_table_are_named() -> None:
    found = opened({"labels": [{"id": 1}, {"id": 2}], "data": ROWS})
    assert len(list(found.rows)) == 2
    assert list(found.warnings) == [
        "Of the file, data is read; other lists in it are not: labels (2 rows)."
    ]


@pytest.mark.parametrize(
    "row",
    [
        ROWS[0],
        {
            "prompt": [{"role": "user", "content": "Where?"}],
            "chosen": [{"role": "assistant", "content": "Here."}],
            "rejected": [{"role": "assistant", "content": "There."}],
        },
        {
            "prompt": "a",
            "chosen": {"role": ["user"], "content": ["x"]},
            "rejected": {"role": ["user"], "content": ["y"]},
        },
        ROWS[0] | {"tags": [{"id": 1}]},
    ],
)
@pytest.mark.parametrize("filename", ["a.json", "a.jsonl"])
def test_one_row_is_a_row(row: dict[str, Any], filename: str) -> None:
    [found] = opened(row, filename=filename).rows
    assert found.columns == row  # type: ignore[union-attr]


def test_columns_hold_dialogues() -> None:
    turn = [{"role": "user", "content": "Where?"}]
    chosen = [[*turn, {"role": "assistant", "content": text}] for text in ("Here.", "Yes.")]
    rejected = [[*turn, {"role": "assistant", "content": text}] for text in ("There.", "No.")]
    assert len(pairs_of({"chosen": chosen, "rejected": rejected})) == 2


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(FormatError, match="different lengths: prompt 2, chosen 2, rejected 1"):
        pairs_of(COLUMNS | {"rejected": ["No."]})


def test_columns_beyond_what_is_held_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_documents, "MAX_HELD_BYTES", 40)
    with pytest.raises(FormatError, match="by columns, which has to be read as a whole"):
        pairs_of(COLUMNS)
    assert pairs_of({"tags": ["a"], "data": ROWS}) == PAIRS


def test_values_without_names_say_how_to_write_them() -> None:
    _, reader = understand(json.dumps([list(pair) for pair in PAIRS]), "a.json")
    assert "orient='records'" in reader.errors[0]["message"]


# --- the dataset viewer -----------------------------------------------------------------------


def test_cells_that_the_viewer_cut_off_reject_their_row() -> None:
    rows = json.loads(json.dumps(VIEWER["rows"]))
    rows[1]["truncated_cells"] = ["chosen"]
    _, reader = understand(json.dumps(VIEWER | {"rows": rows}), "a.json")
    [error] = reader.errors
    assert (error["row"], error["field"]) == (2, "chosen")
    assert "cut off by the dataset viewer" in error["message"]


@pytest.mark.parametrize(
    ("answer", "warning"),
    [({"num_rows_total": 900}, "2 of 900 rows"), ({"partial": True}, "only a part of the data")],
)
def test_a_page_of_the_viewer_is_said_to_be_one(answer: dict[str, Any], warning: str) -> None:
    found = opened(VIEWER | answer)
    list(found.rows)
    assert warning in " ".join(found.warnings)


# --- several objects --------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("between", ["", "\n", "\n\n", " ", ",\n"])
@pytest.mark.parametrize("filename", ["a.json", "a.jsonl", "a"])
def test_objects_one_after_another_are_rows(indent: int | None, between: str, filename: str):
    text = between.join(json.dumps(row, indent=indent) for row in ROWS)
    assert pairs_of(text, filename=filename) == PAIRS


def test_long_first_line_is_a_line() -> None:
    long = ROWS[0] | {"prompt": "p" * 200_000}
    text = "\n".join(json.dumps(row) for row in (long, *ROWS))
    assert pairs_of(text, filename="a.jsonl")[1:] == PAIRS


def test_broken_first_line_costs_only_its_row() -> None:
    text = '{"prompt": "a", "chos\n' + "\n".join(json.dumps(row) for row in ROWS)
    assert pairs_of(text, filename="a.jsonl") == PAIRS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"prompt": "a"},]', "a comma stands before the closing bracket"),
        ('[{"prompt": "a",}]', "a comma stands before the closing bracket"),
        ('{"data": [{"prompt": "a"}],\n}', "a comma stands before the closing bracket"),
        ("[{'prompt': 'a'}]", "single quotation marks"),
        ('[// rows\n{"prompt": "a"}]', "a comment"),
        ('[{"prompt": None}]', "a word of another language"),
    ],
)
def test_what_is_nearly_json_is_explained(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        pairs_of(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"error": "Access to dataset x is restricted."}, "refused the download.*restricted"),
        ({"message": "Not Found", "documentation_url": "https://…"}, "refused the download"),
        ({"error": {"message": "Rate limit", "code": 429}}, "Rate limit"),
        ({"detail": "Not authenticated"}, "Not authenticated"),
        ({"cells": [], "metadata": {}, "nbformat": 4}, "Jupyter notebook"),
        ({"metadata": {}, "weight_map": {"a": "b"}}, "index of a model's weights"),
        ({"architectures": ["LlamaForCausalLM"]}, "part of a model"),
        ({"default": {"features": {"prompt": {}}, "splits": {}}}, "describes a dataset"),
        ({"features": {"prompt": {}}, "splits": {}}, "describes a dataset"),
        ({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}, "state of a saved dataset"),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_other_objects_are_named(value: Any, message: str, indent: int | None) -> None:
    with pytest.raises(FormatError, match=message):
        pairs_of(json.dumps(value, indent=indent), filename="a.jsonl")


def test_a_row_with_a_column_called_message_is_no_error() -> None:
    [found] = opened({"message": "Hi", "chosen": "a", "rejected": "b"}, filename="a.jsonl").rows
    assert found.columns["message"] == "Hi"  # type: ignore[union-attr]


TWICE = '{"prompt": "Is ice light?", "chosen": "Yes.", "rejected": "No.", "chosen": "Sure."}'
NESTED = (
    '{"prompt": "Is ice light?", "chosen": [{"role": "assistant", "content": "Hm.", '
    '"content": "Yes."}], "rejected": [{"role": "assistant", "content": "No."}]}'
)


@pytest.mark.parametrize(
    ("text", "filename", "told"),
    [
        (
            f"{json.dumps(ROWS[0])}\n{TWICE}\n{TWICE}\n",
            "a.jsonl",
            "`chosen` twice (in 2 rows, the f",
        ),
        (f"{TWICE}\n{json.dumps(ROWS[0])}\n", "a.jsonl", "`chosen` twice (in row 1)"),
        (f"{json.dumps(ROWS[0])}\n{NESTED}\n", "a.jsonl", "`content` twice (in row 2)"),
        (f"[{json.dumps(ROWS[0])},{TWICE}]", "a.json", "`chosen` twice (in row 2)"),
        (f"{json.dumps(ROWS[0])}{TWICE}", "a.json", "`chosen` twice (in row 2)"),
        (TWICE, "a.jsonl", "`chosen` twice (in row 1)"),
        (f'{{"data": [{TWICE}]}}', "a.json", "`chosen` twice (in row 1)"),
        ('{"prompt": ["a"], "chosen": ["b"], "chosen": ["c"], "rejected": ["d"]}', "a", "`chosen`"),
    ],
)
def test_a_key_that_is_named_twice_is_told(text: str, filename: str, told: str) -> None:
    found = opened(text, filename=filename)
    assert len(list(found.rows)) == text.count('"prompt"')
    [warning] = found.warnings
    assert warning.startswith("An object names the key")
    assert told in warning


@pytest.mark.parametrize("value", [ROWS, SPLITS | {"test": 3}, COLUMNS, VIEWER])
def test_keys_of_several_objects_are_not_taken_for_one_that_is_named_twice(value: Any) -> None:
    found = opened(value)
    assert list(found.rows)
    assert not [told for told in found.warnings if "twice" in told]


def test_a_file_of_many_keys_that_are_named_twice_is_told_of_some() -> None:
    rows = "".join(f'{{"a{n}": 1, "a{n}": 2}}\n' for n in range(100))
    found = opened(rows, filename="a.jsonl")
    assert len(list(found.rows)) == 100
    assert len(list(found.warnings)) == MAX_KEYS
