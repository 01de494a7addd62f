"""A table of an archive, by its name: previewed, stored, told apart from the others."""

import io
import json
import zipfile

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from tests.app.datasets.test_datasets import ROWS, jsonl, upload
from tests.app.datasets.test_preview import preview


def archive(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as members:
        for name, data in files.items():
            members.writestr(f"data/{name}.jsonl", data)
    return out.getvalue()


SPLITS = archive(train=jsonl(*ROWS), test=jsonl(ROWS[0]))


def test_several_tables_are_named_and_one_is_stored(client: TestClient) -> None:
    for problem in (
        preview(client, SPLITS, "a.zip", status=422),
        upload(client, SPLITS, "a.zip").json(),
    ):
        assert [item["snippet"] for item in problem["errors"] if item["field"] == "member"] == [
            "data/train.jsonl",
            "data/test.jsonl",
        ]
    seen = preview(client, SPLITS, "a.zip", member="data/test.jsonl")
    assert (seen["kind"], seen["member"], seen["rows"]) == ("jsonl", "data/test.jsonl", 1)
    stored = upload(client, SPLITS, "a.zip", member="data/test.jsonl").json()
    assert (stored["name"], stored["member"], stored["pairs"]) == ("a: test", "data/test.jsonl", 1)
    page = client.get(f"/datasets/{stored['id']}", headers={"accept": "text/html"})
    assert "data/test.jsonl" in page.text


def test_another_table_of_the_same_file_is_not_known_yet(client: TestClient) -> None:
    form = {"if_known": "refuse"}
    assert upload(client, SPLITS, "a.zip", member="data/test.jsonl", **form).status_code == 201
    assert upload(client, SPLITS, "a.zip", member="data/train.jsonl", **form).status_code == 201
    assert upload(client, SPLITS, "a.zip", member="data/train.jsonl", **form).status_code == 409


def test_the_only_table_needs_no_name(client: TestClient) -> None:
    stored = upload(client, archive(train=jsonl(*ROWS)), "a.zip").json()
    assert (stored["name"], stored["member"], stored["pairs"]) == ("a", "data/train.jsonl", 2)


def test_lists_of_one_json_object_are_chosen_alike(client: TestClient) -> None:
    data = json.dumps({"train": ROWS, "test": ROWS[:1]}).encode()
    assert upload(client, data, "a.json").status_code == 422
    assert upload(client, data, "a.json", member="test").json()["pairs"] == 1


def test_doubts_about_the_file_are_kept(client: TestClient) -> None:
    data = b'prompt\tchosen\trejected\na\t"b" c\td\n'
    seen = preview(client, data, "a.tsv")
    assert (seen["confidence"], seen["pairs"][0]["preferred"]) == ("unsure", '"b" c')
    stored = upload(client, data, "a.tsv").json()
    assert stored["warnings"] == seen["reasons"]
    assert "Line 2: cells begin with a quotation mark" in stored["warnings"][0]


@pytest.mark.parametrize("size", [10, 10_000])
def test_zstd_uploads_are_read(client: TestClient, size: int) -> None:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(jsonl(*ROWS) * size)
    stored = upload(client, bytes(sink.getvalue()), "a.jsonl.zst").json()
    assert (stored["name"], stored["pairs"]) == ("a", 2 * size)
