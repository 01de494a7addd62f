"""What a file is said to hold before anything of it is stored."""

import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from tests.app.datasets.test_datasets import API, ROWS, jsonl, stored_rows, upload


def preview(
    client: TestClient, data: bytes, filename: str = "a.jsonl", *, status: int = 200, **form: str
) -> dict[str, Any]:
    answer = client.post(f"{API}/datasets/preview", files={"file": (filename, data)}, data=form)
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_known_form_is_shown_with_its_columns_and_first_pairs(
    client: TestClient, session: Session
) -> None:
    seen = preview(client, jsonl(*ROWS, {"prompt": "no responses"}))
    assert (seen["kind"], seen["format"], seen["is_whole"]) == ("jsonl", "text", True)
    assert (seen["rows"], seen["usable"], seen["rejected"]) == (3, 2, 1)
    assert {column["name"]: column["role"] for column in seen["columns"]} == {
        "prompt": "prompt",
        "chosen": "preferred response",
        "rejected": "dispreferred response",
        "source": None,
    }
    assert seen["pairs"][0]["preferred"] == ROWS[0]["chosen"]
    assert seen["errors"][0]["row"] == 3
    assert stored_rows(session) == (0, 0)


@pytest.mark.parametrize(
    ("rows", "confidence", "reason"),
    [
        ([ROWS[0]] * 9, "sure", None),
        (
            [ROWS[0], {"prompt": "a"}],
            "unsure",
            "1 of 2 rows could not be parsed with this mapping.",
        ),
        ([{"chosen": "It is so", "rejected": "It is not"}], "unsure", "no prompt column"),
        ([{"query": "a", "good": "b", "bad": "c"}], "unsure", "guessed from their names"),
        ([{"text": "a", "label": 1}], "none", "no known form"),
        ([1], "none", "None of the rows could be read."),
    ],
)
def test_confidence_says_whether_to_look(
    client: TestClient, rows: list[Any], confidence: str, reason: str | None
) -> None:
    seen = preview(client, jsonl(*rows))
    assert seen["confidence"] == confidence
    assert (reason in " ".join(seen["reasons"])) if reason else seen["reasons"] == []


def test_guessed_mapping_is_what_the_upload_takes(client: TestClient) -> None:
    data = jsonl({"query": "a", "good answer": "b", "bad answer": "c"})
    seen = preview(client, data)
    assert seen["needs_mapping"]
    assert upload(client, data).status_code == 422
    stored = upload(client, data, mapping=json.dumps(seen["mapping"]))
    assert (stored.status_code, stored.json()["pairs"]) == (201, 1)


def test_mapping_is_tried_out(client: TestClient) -> None:
    data = jsonl({"a": "Q", "b": "first", "c": "second", "which": 2})
    mapping = {"prompt": "a", "preferred": "b", "dispreferred": "c", "preference": "which"}
    seen = preview(client, data, mapping=json.dumps(mapping))
    assert (seen["pairs"][0]["preferred"], seen["mapping"]) == ("second", mapping)


@pytest.mark.parametrize("filename", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("packed", [False, True])
def test_beginning_of_a_file_tells_what_it_is(
    client: TestClient, filename: str, packed: bool
) -> None:
    rows = [{"prompt": f"{n}", "chosen": f"yes, {n * n}", "rejected": "no"} for n in range(300)]
    data = {
        "a.jsonl": jsonl(*rows),
        "a.json": json.dumps(rows).encode(),
        "a.csv": b"prompt,chosen,rejected\n"
        + b"".join(f'{row["prompt"]},"{row["chosen"]}",no\n'.encode() for row in rows),
    }[filename]
    data = gzip.compress(data, 1) if packed else data
    seen = preview(client, data[: len(data) // 2], filename, whole="false")
    assert not seen["is_whole"]
    assert seen["rejected"] == 0, seen["errors"]
    assert 20 < seen["usable"] < 300


def test_long_texts_are_shown_cut(client: TestClient) -> None:
    seen = preview(client, jsonl({"prompt": "p" * 99_999, "chosen": "a", "rejected": "b"}))
    assert len(seen["pairs"][0]["prompt"]) < 1000
    assert len(seen["columns"][0]["example"]) < 300


def test_parquet_is_looked_at_as_a_whole(client: TestClient) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["a"], "chosen": ["b"], "rejected": ["c"]}), buffer)
    assert preview(client, buffer.getvalue())["kind"] == "parquet"
    problem = preview(client, buffer.getvalue()[:200], status=422, whole="false")
    assert "at its end" in problem["detail"]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"[{", b"\x1f\x8bbroken"])
def test_what_is_no_dataset_is_said_to_be_none(client: TestClient, data: bytes) -> None:
    assert preview(client, data, status=422)["detail"]
