"""Odd and hostile files: each gets a clear answer, none is stored by half, none breaks a page."""

import datetime
import decimal
import gzip
import io
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.local.embedded import Services, free_port
from app.main import create_app
from chesboard.formats.json_text import MAX_ROW_BYTES
from tests.app.datasets.test_datasets import API, jsonl, stored_rows, upload
from tests.chesboard.formats.test_parsing import understand
from tests.support import eventually

TEXT = {"prompt": "a", "chosen": "b", "rejected": "c"}
LINE = json.dumps(TEXT).encode()
HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def parquet(table: "pa.Table | dict[str, Any]", **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), buffer, **options)
    return buffer.getvalue()


# --- the texts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        HTML,
        "{{ 7 * 7 }} ${x} <!-- -->",
        "\u202eright to left\u202c שלום مرحبا",
        "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301",
        "\ufeffmark \u2028 line \u0085 \x1b[31m",
        "=cmd|'/c calc'!A1",
        "'; DROP TABLE pairs; --",
        "\\N \\. \t \r\n",
    ],
)
def test_text_is_stored_as_it_is_and_the_pages_stand(client: TestClient, text: str) -> None:
    row = {"prompt": text, "chosen": f"1{text}", "rejected": f"2{text}", text: text}
    stored = upload(client, jsonl(row), f"{text}.jsonl", name=text.strip()[:50]).json()
    [pair] = client.get(f"{API}/datasets/{stored['id']}/pairs").json()["items"]
    assert (pair["prompt"], pair["preferred"]) == (text, f"1{text}")
    assert pair["meta"][text] == text
    for page in ("/datasets", f"/datasets/{stored['id']}", f"/datasets/{stored['id']}/new"):
        answer = client.get(page, headers={"accept": "text/html"})
        assert answer.status_code == 200
        assert HTML not in answer.text


def test_rejected_rows_are_quoted_as_text(client: TestClient) -> None:
    stored = upload(client, LINE + b"\n" + HTML.encode() + b"\n").json()
    assert stored["errors"][0]["snippet"] == HTML[:120]
    page = client.get(f"/datasets/{stored['id']}", headers={"accept": "text/html"})
    assert HTML not in page.text


def test_ten_megabyte_row_is_stored_and_shown_cut(client: TestClient) -> None:
    long = "ä " * 3_500_000
    row = json.dumps(TEXT | {"chosen": long}, ensure_ascii=False).encode()
    assert len(row) > 10_000_000
    stored = upload(client, LINE + b"\n" + row).json()
    assert (stored["pairs"], stored["rejected"]) == (2, 0)
    assert stored["statistics"]["issues"]["long"] == 1
    page = client.get(f"{API}/datasets/{stored['id']}/pairs?clip=1000").json()["items"]
    assert [item["is_clipped"] for item in page] == [False, True]
    assert page[1]["preferred"] == long[:1000] + "…"
    whole = client.get(f"{API}/datasets/{stored['id']}/pairs?offset=1&limit=1").json()["items"]
    assert whole[0]["preferred"] == long


@pytest.mark.parametrize("filename", ["a.jsonl", "a.csv"])
def test_row_that_is_too_long_is_reported_and_the_rest_read(filename: str) -> None:
    long = b"x" * (MAX_ROW_BYTES + 10)
    if filename.endswith("csv"):
        data = b"prompt,chosen,rejected\na,b,c\na," + long + b",c\nd,e,f\n"
    else:
        data = LINE + b"\n" + long + b"\n" + LINE
    pairs, intake = understand(data, filename, max_bytes=1 << 26)
    assert [pair.row for pair in pairs] == ([2, 4] if filename.endswith("csv") else [1, 3])
    assert intake.rejected == 1
    assert "longer than" in intake.errors[0]["message"]


def test_deep_nesting_is_a_row_s_matter(client: TestClient) -> None:
    def deep(levels: int) -> bytes:
        return LINE[:-1] + b', "x": ' + b"[" * levels + b"]" * levels + b"}"

    data = b"\n".join([deep(10), deep(64), deep(65), deep(400), deep(100_000)])
    stored = upload(client, data).json()
    # Beside the pair it is cut off; what the parser cannot follow rejects the row.
    assert (stored["pairs"], stored["rejected"]) == (4, 1)
    assert all("nested too deeply" in item["message"] for item in stored["errors"])
    assert client.get(f"{API}/datasets/{stored['id']}/pairs").status_code == 200
    for format in ("jsonl", "csv", "parquet"):
        query = f"format={format}&form=original"
        assert client.get(f"{API}/datasets/{stored['id']}/export?{query}").status_code == 200


def test_broken_and_odd_lines_stop_none_of_the_others() -> None:
    data = b"\xef\xbb\xbf" + b"\r\n".join(
        [LINE, b'{"prompt": "\xff"}', b"", b"\0\0", b'{"prompt": "\\u0000"}', LINE, b"[" * 9]
    )
    pairs, intake = understand(data)
    assert [pair.row for pair in pairs] == [1, 6]
    assert [item["row"] for item in intake.errors] == [2, 4, 5, 7]
    assert all(item.get("snippet") for item in intake.errors)


def test_column_that_is_missing_half_way_is_said_row_by_row() -> None:
    short = {name: value for name, value in TEXT.items() if name != "rejected"}
    pairs, intake = understand(jsonl(TEXT, TEXT, short, TEXT, short))
    assert len(pairs) == 3
    assert [(item["row"], item["field"]) for item in intake.errors] == [
        (3, "rejected"),
        (5, "rejected"),
    ]
    assert intake.reasons == {"missing": 2}


# --- the wrong name, the wrong kind -----------------------------------------------------------

CSV = b"prompt,chosen,rejected\na,b,c\n"


@pytest.mark.parametrize("filename", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a", "a.jsonl.gz"])
@pytest.mark.parametrize(
    "data",
    [
        LINE,
        b"[" + LINE + b"]",
        b'{"version": 1, "data": [' + LINE + b"]}",
        json.dumps({"data": [TEXT]}, indent=2).encode(),
        CSV,
        CSV.replace(b",", b"\t"),
        CSV.replace(b",", b";"),
        parquet({name: [value] for name, value in TEXT.items()}),
    ],
    ids=["jsonl", "array", "wrapped", "printed", "csv", "tabs", "semicolons", "parquet"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_name_does_not_decide_what_a_file_is(filename: str, data: bytes, packed: bool) -> None:
    if filename == "a.jsonl" and data.startswith(b"["):
        pytest.skip("a list is no row of JSONL, and is said not to be")
    pairs, intake = understand(gzip.compress(data) if packed else data, filename)
    assert intake.errors == []
    assert [(pair.prompt, pair.preferred, pair.dispreferred) for pair in pairs] == [("a", "b", "c")]


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "holds no rows"),
        (gzip.compress(b""), "holds no rows"),
        (b"\xef\xbb\xbf", "holds no rows"),
        (b"[]", "holds no rows"),
        (b"prompt,chosen,rejected\n", "holds no rows"),
        (gzip.compress(gzip.compress(LINE)), "compressed twice"),
        (b"\x80\x04\x95\x10\0\0", "Pickles are never opened"),
        (b"%PDF-1.7", "PDF"),
        (b'{"data": {"a": 1}, "b": 2}\n', "columns found"),
        (b'{\n"meta": {"a": 1},\n"b": 2}', "one JSON object that holds no list of rows"),
        (b"[" + LINE + b", " + LINE[:-5], "not JSON"),
        (b"[" + LINE + b"] trailing", None),
        (b"PAR1" + bytes(100) + b"PAR1", "Parquet file is damaged"),
        (parquet({"prompt": ["a"] * 99})[:-30], "Parquet file is damaged"),
        (parquet({"prompt": pa.array([], pa.string())}), "holds no rows"),
        (parquet({"text": ["a"], "label": [1]}), "The columns found are text, label"),
    ],
    ids=[
        "nothing",
        "nothing, gzipped",
        "a byte order mark",
        "an empty list",
        "a header alone",
        "gzipped twice",
        "a pickle",
        "a PDF",
        "an object of other columns",
        "an object without rows",
        "a list cut short",
        "text behind a list",
        "an empty Parquet frame",
        "a Parquet file cut short",
        "Parquet without rows",
        "Parquet of other columns",
    ],
)
def test_file_that_holds_nothing_usable_is_explained(
    client: TestClient, session: Session, data: bytes, detail: str | None
) -> None:
    answer = upload(client, data, "file")
    if detail is None:
        assert answer.status_code == 201
        return
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]
    assert stored_rows(session) == (0, 0)


# --- bombs ------------------------------------------------------------------------------------


def test_gzipped_bomb_is_stopped_by_its_ratio(client: TestClient, session: Session) -> None:
    bomb = gzip.compress(b"\n" * (100 << 20), 9)
    assert len(bomb) < 1 << 18
    answer = upload(client, bomb, "bomb.jsonl.gz")
    assert answer.status_code == 413
    assert "times its size" in answer.json()["detail"]
    assert stored_rows(session) == (0, 0)


def test_parquet_that_unpacks_to_too_much_is_stopped(
    client: TestClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = parquet({name: ["x" * 10_000] * 2_000 for name in TEXT}, compression="zstd")
    assert len(data) < 1 << 20
    monkeypatch.setattr(get_settings(), "max_upload_bytes", 1 << 20)
    assert upload(client, data, "a.parquet").status_code == 413
    assert stored_rows(session) == (0, 0)


# --- a connection that breaks ------------------------------------------------------------------


@pytest.fixture
def address(database: Services) -> Iterator[tuple[str, int]]:
    """Where a real server answers, in a thread of this process."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(), port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started)
    yield "127.0.0.1", port
    server.should_exit = True
    thread.join(15)


def test_connection_that_breaks_half_way_leaves_nothing(
    address: tuple[str, int], session: Session
) -> None:
    boundary = b"--parts"
    head = boundary + b'\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    rows = (LINE + b"\n") * 100_000
    with socket.create_connection(address) as connection:
        connection.sendall(
            b"POST /api/v1/datasets HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % address[1]
            + b"Content-Type: multipart/form-data; boundary=parts\r\n"
            + b"Content-Length: %d\r\n\r\n" % (len(head) + 2 * len(rows))
            + head
            + rows
        )
    # The server goes on, and has stored nothing.
    again = httpx.get(f"http://{address[0]}:{address[1]}/api/v1/datasets")
    assert again.json() == {"total": 0, "items": []}
    assert stored_rows(session) == (0, 0)


# --- Parquet ----------------------------------------------------------------------------------


def test_parquet_of_odd_types_is_read(client: TestClient) -> None:
    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())])
    said = [[{"role": "user", "content": "Shall we?"}, {"role": "assistant", "content": "Yes."}]]
    other = [[{"role": "user", "content": "Shall we?"}, {"role": "assistant", "content": "No."}]]
    table = pa.table(
        {
            "chosen": pa.array(said, pa.list_(message)),
            "rejected": pa.array(other, pa.large_list(message)),
            "day": [datetime.date(2024, 1, 2)],
            "at": pa.array([2**62], pa.timestamp("ms")),  # beyond what Python has
            "price": [decimal.Decimal("1.50")],
            "kind": pa.array(["a"]).dictionary_encode(),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())),
            "raw": [b"text"],
            "nan": [float("nan")],
            "none": pa.nulls(1),
        }
    )
    stored = upload(client, parquet(table), "a.parquet").json()
    assert stored["rejected"] == 0, stored["errors"]
    [pair] = client.get(f"{API}/datasets/{stored['id']}/pairs").json()["items"]
    assert (pair["preferred"], pair["dispreferred"]) == ("Yes.", "No.")
    meta = pair["meta"]
    assert (meta["day"], meta["price"], meta["kind"]) == ("2024-01-02", "1.50", "a")
    assert (meta["map"], meta["raw"], meta["nan"], meta["none"]) == ([["k", 1]], "text", None, None)
    assert isinstance(meta["at"], str)


def test_bytes_in_parquet_that_are_no_text_cost_only_their_row() -> None:
    table = {"prompt": [b"a", b"\xff"], "chosen": ["b", "b"], "rejected": ["c", "c"]}
    pairs, intake = understand(parquet(table), "a.parquet")
    assert [pair.row for pair in pairs] == [1]
    assert (intake.errors[0]["row"], intake.errors[0]["field"]) == (2, "prompt")


def test_parquet_of_several_row_groups_keeps_its_order() -> None:
    table = {name: [f"{value}{n}" for n in range(1000)] for name, value in TEXT.items()}
    pairs, _ = understand(parquet(table, row_group_size=64), "a.parquet")
    assert [pair.prompt for pair in pairs] == table["prompt"]


# --- CSV --------------------------------------------------------------------------------------


def test_csv_cells_hold_commas_quotes_newlines_and_messages() -> None:
    chat = [{"role": "user", "content": 'a "b", c\nd'}]
    data = (
        "prompt,chosen,rejected\r\n"
        '"a, ""b""\r\nc",=1+1,"x\ny"\r\n'
        f'"{json.dumps(chat).replace(chr(34), chr(34) * 2)}",b,c\r\n'
        f'"{str(chat).replace(chr(34), chr(34) * 2)}",b,c\r\n'
    )
    pairs, intake = understand(data, "a.csv")
    assert intake.errors == []
    assert (pairs[0].prompt, pairs[0].preferred) == ('a, "b"\r\nc', "=1+1")
    assert [pair.prompt for pair in pairs[1:]] == [chat, chat]


def test_csv_with_a_quote_that_never_ends_says_so() -> None:
    data = CSV + b'x,"' + b"y\n" * 1000
    pairs, intake = understand(data, "a.csv")
    assert (len(pairs), intake.rejected) == (1, 1)
    assert intake.errors[0]["row"] == 3


# --- any bytes at all -------------------------------------------------------------------------

# fmt: off
PIECES = st.sampled_from([
    LINE, LINE + b"\n", b"\n", b"{", b"}", b"[", b"]", b",", b'"', b"\\", b"\0", b"\xff",
    b"\xed\xa0\x80", b"PAR1", b"\x1f\x8b\x08", b"\xef\xbb\xbf", CSV, b'{"data": [', b"=1",
    b"prompt,chosen,rejected", b'"prompt":', b'"\\ud800"', b"1e999", b"NaN", b"9" * 5000,
    b"[{'role':", b"chosen:json", b"'",
])
# fmt: on
BYTES = st.binary(max_size=80) | st.lists(PIECES | st.binary(max_size=4), max_size=9).map(b"".join)
NAMES = st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.gz", "a.csv.gz", "a", "../a\\b"])


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=BYTES, filename=NAMES, packed=st.booleans(), preview=st.booleans())
def test_any_bytes_are_stored_or_refused(
    client: TestClient, data: bytes, filename: str, packed: bool, preview: bool
) -> None:
    if data.startswith(b"PAR1"):
        data = data[1:]  # each would start a process; see the next test
    data = gzip.compress(data) if packed else data
    if preview:
        file = {"file": (filename, data)}
        answer = client.post(f"{API}/datasets/preview", files=file, data={"whole": "false"})
        assert answer.status_code in (200, 413, 422), answer.text
        return
    answer = upload(client, data, filename)
    assert answer.status_code in (201, 413, 422), answer.text
    if answer.status_code == 201:
        stored = answer.json()
        page = client.get(f"{API}/datasets/{stored['id']}/pairs")
        assert len(page.json()["items"]) == stored["pairs"]
        export = client.get(f"{API}/datasets/{stored['id']}/export?form=original&format=csv")
        assert export.status_code == 200


GOOD_PARQUET = parquet({name: [value] * 50 for name, value in TEXT.items()}, compression="none")


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    at=st.integers(4, len(GOOD_PARQUET) - 9),
    damage=st.binary(min_size=1, max_size=8),
    size=st.none() | st.binary(min_size=4, max_size=4),
)
def test_damaged_parquet_is_stored_or_refused(
    client: TestClient, at: int, damage: bytes, size: bytes | None
) -> None:
    data = bytearray(GOOD_PARQUET)
    data[at : at + len(damage)] = damage
    if size is not None:
        data[-8:-4] = size  # of the directory at the end
    assert upload(client, bytes(data), "a.parquet").status_code in (201, 413, 422)


@pytest.mark.parametrize("mapping", ["[", "{}", '{"preferred": "a", "dispreferred": "a"}', "\0"])
def test_mapping_that_makes_no_sense_is_refused(client: TestClient, mapping: str) -> None:
    answer = upload(client, LINE, mapping=mapping)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith("mapping")


# --- a few bytes that become very much ---------------------------------------------------------


@pytest.fixture
def few_pairs(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A server that takes a thousand pairs a dataset."""
    monkeypatch.setenv("CHESBOARD_MAX_PAIRS", "1000")
    get_settings.cache_clear()
    return client


def test_a_small_file_does_not_become_millions_of_pairs(few_pairs: TestClient) -> None:
    same = {"prompt": ["a"] * 100_000, "chosen": ["b"] * 100_000, "rejected": ["c"] * 100_000}
    file = parquet(same, compression="zstd")
    assert len(file) < 25_000
    refused = upload(few_pairs, file, "a.parquet")
    assert refused.status_code == 413
    assert "more than 1,000 pairs" in refused.json()["detail"]
    assert "CHESBOARD_MAX_PAIRS" in refused.json()["detail"]
    assert few_pairs.get(f"{API}/datasets").json()["total"] == 0


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_of_millions_of_rows_without_a_pair_is_not_read_to_its_end(
    few_pairs: TestClient, name: str
) -> None:
    lines = (b"prompt,chosen,rejected\n" if name == "a.csv" else LINE + b"\n") + b"1\n" * 1001
    refused = upload(few_pairs, lines, name)
    assert refused.status_code == 413
    assert "More than 1,000 rows of the file make no pair" in refused.json()["detail"]
    assert "The first: " in refused.json()["detail"]
    assert upload(few_pairs, LINE + b"\n" + b"1\n" * 1000).json()["rejected"] == 1000


def test_a_thousand_pairs_are_a_thousand(few_pairs: TestClient) -> None:
    rows = [{"prompt": f"{n}", "chosen": "b", "rejected": "c"} for n in range(1000)]
    assert upload(few_pairs, jsonl(*rows)).json()["pairs"] == 1000


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_table_of_very_many_columns_is_refused_at_its_head(
    client: TestClient, ending: str
) -> None:
    names = ["prompt", "chosen", "rejected", *(f"c{number}" for number in range(50_000))]
    row = ",".join(["a"] * len(names))
    csv = "\n".join([",".join(names), *[row] * 20]).encode()
    rows = jsonl(*[dict.fromkeys(names, "a")] * 5)
    file = {"file": (f"a.{ending}", csv if ending == "csv" else rows)}
    answer = client.post(f"{API}/datasets/preview", files=file)
    said = json.dumps(answer.json())
    assert "2,000 at most" in said
    assert answer.status_code == 422 or answer.json()["usable"] == 0
