"""Datasets of the hub through the API: by name, whole or not at all, with their provenance."""

import hashlib
import io
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.database import get_engine
from app.core.settings import get_settings
from app.datasets import hub as hub_datasets
from app.store.audit import AuditEvent
from app.store.datasets import Dataset, Pair
from chesboard.hub import download
from tests import support
from tests.hub_server import HubServer, Repo, commit_of, hub_server

API = "/api/v1"
NAME = "acme/pairs"
KEY = "a-key-of-the-test"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(download, "WATCH_SECONDS", 0.02)
    with hub_server(monkeypatch) as server:
        yield server


def rows(*names: str) -> list[dict[str, str]]:
    return [{"prompt": name, "chosen": f"{name}: yes", "rejected": "no"} for name in names]


def jsonl(*names: str) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows(*names))


def parquet(*names: str) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows(*names)), buffer)
    return buffer.getvalue()


def arrow(*names: str) -> bytes:
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows(*names))
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def store(client: TestClient, **wanted: Any) -> Any:
    return client.post(f"{API}/datasets", json={"hub": NAME, **wanted})


def preview(client: TestClient, **wanted: Any) -> Any:
    return client.post(f"{API}/datasets/preview", json={"hub": NAME, **wanted})


def prompts(client: TestClient, dataset: dict[str, Any]) -> list[tuple[str, int]]:
    page = client.get(f"{API}/datasets/{dataset['id']}/pairs").json()
    return [(item["prompt"], item["meta"]["row"]) for item in page["items"]]


def stored(session: Session) -> tuple[int, int]:
    return (
        session.scalar(select(func.count()).select_from(Dataset)) or 0,
        session.scalar(select(func.count()).select_from(Pair)) or 0,
    )


def test_a_split_is_stored_as_one_dataset_with_its_provenance(
    client: TestClient, hub: HubServer
) -> None:
    shards = [parquet("a", "b"), parquet("c"), parquet("d")]
    hub.repos[NAME] = Repo(
        {f"data/train-{n:05d}-of-00003.parquet": shard for n, shard in enumerate(shards)}, lfs=True
    )
    answer = store(client)
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert prompts(client, dataset) == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    provenance = {
        "hub_name": NAME,
        "hub_config": "default",
        "hub_split": "train",
        "hub_revision": commit_of(NAME, "main"),
        "source_sha256": hashlib.sha256(b"".join(shards)).hexdigest(),
        "source_bytes": len(b"".join(shards)),
        "source_filename": "data/train-00000-of-00003.parquet and 2 more",
    }
    assert provenance.items() <= dataset.items()
    assert dataset["name"] == "acme/pairs: train"
    manifest = client.get(f"{API}/datasets/{dataset['id']}/export/manifest").json()
    assert provenance.items() <= manifest.items()
    page = client.get(f"/datasets/{dataset['id']}").text
    assert commit_of(NAME, "main") in page
    assert f"{hub.address}/datasets/{NAME}/tree/{commit_of(NAME, 'main')}" in page


def test_an_uploaded_file_has_no_place_on_the_hub(client: TestClient) -> None:
    answer = client.post(f"{API}/datasets", files={"file": ("mine.jsonl", jsonl("a"))})
    assert answer.status_code == 201
    assert {answer.json()[f"hub_{of}"] for of in ("name", "config", "split", "revision")} == {None}


def test_a_revision_a_split_a_name_and_a_mapping(client: TestClient, hub: HubServer) -> None:
    odd = b"q,good,bad\na,b,c\n"
    hub.repos[NAME] = Repo({}, {"v1": {"odd/train.csv": odd, "odd/test.csv": odd}})
    answer = store(
        client,
        revision="v1",
        config="odd",
        split="test",
        name=" Mine ",
        mapping={"prompt": "q", "preferred": "good", "dispreferred": "bad"},
    )
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert (found["name"], found["hub_config"], found["hub_split"]) == ("Mine", "odd", "test")
    assert found["hub_revision"] == commit_of(NAME, "v1")


def test_rejected_rows_count_on_over_the_files(client: TestClient, hub: HubServer) -> None:
    hub.repos[NAME] = Repo(
        {"train/0.jsonl": jsonl("a", "b"), "train/1.jsonl": b"{}\n" + jsonl("c")}
    )
    dataset = store(client).json()
    assert prompts(client, dataset) == [("a", 1), ("b", 2), ("c", 4)]
    assert [item["row"] for item in dataset["errors"]] == [3]


def test_several_splits_are_listed_with_their_sizes(client: TestClient, hub: HubServer) -> None:
    hub.repos[NAME] = Repo({"train.jsonl": jsonl("a"), "test.jsonl": jsonl("b", "c")})
    for answer in (store(client), preview(client)):
        assert answer.status_code == 422
        problem = answer.json()
        assert problem["errors"][0]["field"] == "split"
        assert "default/train (" in problem["detail"]
        assert problem["revision"] == commit_of(NAME, "main")
        assert problem["splits"] == [
            {"config": "default", "split": "test", "files": 1, "bytes": len(jsonl("b", "c"))},
            {"config": "default", "split": "train", "files": 1, "bytes": len(jsonl("a"))},
        ]
    assert hub.downloads() == []


def test_the_same_split_of_the_same_commit_is_recognized(
    client: TestClient, hub: HubServer
) -> None:
    hub.repos[NAME] = Repo({"train.jsonl": jsonl("a"), "test.jsonl": jsonl("b")})
    first = store(client, split="train").json()["id"]
    hub.requests.clear()
    refused = store(client, split="train", if_known="refuse", revision=commit_of(NAME, "main"))
    assert (refused.status_code, refused.json()["dataset_id"]) == (409, first)
    assert refused.headers["location"] == f"{API}/datasets/{first}"
    assert hub.downloads() == []
    assert store(client, split="train").json()["same_file"] == [first]
    assert store(client, split="test", if_known="refuse").status_code == 201


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ({"hub": "acme/none"}, 422, "no dataset “acme/none”"),
        ({"hub": "../etc"}, 422, "is no name"),
        ({"hub": "http://127.0.0.1/x"}, 422, "is no name"),
        ({"revision": "v9"}, 422, "no revision “v9”"),
        ({"revision": "../../models"}, 422, "revision"),
        ({"split": "none"}, 422, "no split “none”"),
        ({"config": "none"}, 422, "no configuration “none”"),
        ({"mapping": {"prompt": 3}}, 422, "mapping"),
        ({"name": "x" * 201}, 422, "name"),
        ({"endpoint": "http://127.0.0.1"}, 422, "endpoint"),
    ],
)
def test_what_cannot_be_had_is_said_and_nothing_is_stored(
    client: TestClient,
    session: Session,
    hub: HubServer,
    wanted: dict[str, Any],
    status: int,
    said: str,
) -> None:
    hub.repos[NAME] = Repo({"train.jsonl": jsonl("a")})
    answer = store(client, **wanted)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert stored(session) == (0, 0)


def test_offline_gated_limited_and_broken(
    client: TestClient, session: Session, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo({"train.jsonl": jsonl("a")}, gated=True)
    gated = store(client)
    assert (gated.status_code, "Accept its terms" in gated.json()["detail"]) == (422, True)
    hub.repos[NAME].gated = False
    hub.corrupt = True
    broken = store(client)
    assert (broken.status_code, "checksum" in broken.json()["detail"]) == (503, True)
    hub.limited = True
    limited = store(client)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "120")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = store(client)
    assert (offline.status_code, "offline" in offline.json()["detail"]) == (503, True)
    assert stored(session) == (0, 0)


def test_one_that_is_too_large_is_refused_before_a_byte(
    client: TestClient, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo({"train/0.jsonl": jsonl("a"), "train/1.jsonl": jsonl("b")})
    monkeypatch.setenv("CHESBOARD_MAX_UPLOAD_BYTES", str(2 * len(jsonl("a")) - 1))
    get_settings.cache_clear()
    for answer in (store(client), preview(client)):
        assert answer.status_code == 413
        assert "Nothing was downloaded" in answer.json()["detail"]
    assert hub.downloads() == []


def test_files_that_unpack_to_too_much_together_are_refused(
    client: TestClient, session: Session, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    packed = gzip.compress(jsonl(*["the same"] * 50))
    hub.repos[NAME] = Repo({f"train/{n}.jsonl.gz": packed for n in range(3)})
    monkeypatch.setenv("CHESBOARD_MAX_UPLOAD_BYTES", str(len(jsonl("the same")) * 100))
    get_settings.cache_clear()
    answer = store(client)
    assert answer.status_code == 413
    assert answer.json()["detail"].startswith("train/2.jsonl.gz: ")
    assert stored(session) == (0, 0)


def test_a_file_that_cannot_be_read_is_named(client: TestClient, hub: HubServer) -> None:
    hub.repos[NAME] = Repo({"train/0.jsonl": jsonl("a"), "train/1.jsonl": b"%PDF-1.4 and so on"})
    answer = store(client)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("train/1.jsonl: The file is a PDF")


def test_progress_is_in_bytes_and_no_transaction_is_open_meanwhile(
    client: TestClient, session: Session, hub: HubServer
) -> None:
    content = jsonl("a" * 3_000_000)
    hub.repos[NAME] = Repo({"train.jsonl": content})
    hub.stalls_after = 2_000_000
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(
            client.post(f"{API}/datasets?progress={KEY}", json={"hub": NAME})
        )
    )
    thread.start()
    now = wait_for(client, lambda now: now.get("bytes_done") == 2_000_000)
    assert (now["phase"], now["bytes_total"]) == ("downloading", len(content))
    assert now["eta_seconds"] > 0
    assert get_engine().pool.checkedout() == 0  # type: ignore[attr-defined]

    started = time.monotonic()
    assert client.delete(f"{API}/datasets/progress/{KEY}").status_code == 204
    thread.join(10)
    assert time.monotonic() - started < 1
    assert (answers[0].status_code, answers[0].json()["detail"]) == (
        409,
        "The upload was cancelled. Nothing was stored.",
    )
    assert client.get(f"{API}/datasets/progress/{KEY}").json()["phase"] == "failed"
    assert stored(session) == (0, 0)


def wait_for(client: TestClient, is_reached: Any) -> dict[str, Any]:
    for _ in range(500):
        now = client.get(f"{API}/datasets/progress/{KEY}").json()
        if is_reached(now):
            return dict(now)
        time.sleep(0.01)
    raise AssertionError(now)


def test_only_a_few_are_fetched_at_a_time(
    client: TestClient, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo({"train.jsonl": jsonl("a")})
    with monkeypatch.context() as patch:
        patch.setattr(hub_datasets, "_places", threading.BoundedSemaphore(1))
        with hub_datasets._place():
            assert store(client).status_code == 429
        assert store(client).status_code == 201


def test_a_preview_fetches_the_beginning_and_says_what_it_is_of(
    client: TestClient, session: Session, hub: HubServer
) -> None:
    many = jsonl(*(str(number) * 3000 for number in range(100, 400)))
    assert len(many) > hub_datasets.FIRST_PART
    hub.repos[NAME] = Repo({"train/0.jsonl": many, "train/1.jsonl": many, "test.jsonl": b""})
    answer = preview(client, split="train")
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert (seen["confidence"], seen["form"]) == ("sure", "prompt with two responses") or seen[
        "usable"
    ]
    assert not seen["is_whole"]
    assert seen["hub"] == {
        "name": NAME,
        "config": "default",
        "split": "train",
        "revision": commit_of(NAME, "main"),
        "files": ["train/0.jsonl", "train/1.jsonl"],
        "bytes": 2 * len(many),
        "splits": [
            {"config": "default", "split": "test", "files": 1, "bytes": 0},
            {"config": "default", "split": "train", "files": 2, "bytes": 2 * len(many)},
        ],
    }
    ranges = [headers.get("Range") for path, headers in hub.requests if "/resolve/" in path]
    assert ranges == [f"bytes=0-{hub_datasets.FIRST_PART - 1}"]
    assert stored(session) == (0, 0)


@pytest.mark.parametrize(("kind", "content"), [("parquet", parquet("a")), ("arrow", arrow("a"))])
def test_a_large_table_has_no_preview_but_can_be_stored(
    client: TestClient,
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    content: bytes,
) -> None:
    hub.repos[NAME] = Repo({f"train.{kind}": content})
    assert preview(client).json()["pairs"][0]["prompt"] == "a"
    monkeypatch.setattr(hub_datasets, "WHOLE_TABLE", 10)
    refused = preview(client)
    assert refused.status_code == 422
    assert refused.json()["hub"]["split"] == "train"
    assert store(client).status_code == 201


def test_the_audit_log_names_the_dataset_and_no_token(
    locked: TestClient, session: Session, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    hub.repos[NAME] = Repo({"train.jsonl": jsonl("a")})
    viewer = {"Authorization": f"Bearer {support.VIEWER_TOKEN}"}
    assert locked.post(f"{API}/datasets", json={"hub": NAME}, headers=viewer).status_code == 403
    assert hub.requests == []
    operator = {"Authorization": f"Bearer {support.OPERATOR_TOKEN}"}
    answer = locked.post(f"{API}/datasets", json={"hub": NAME}, headers=operator)
    assert answer.status_code == 201
    (event,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "dataset.upload"))
    assert event.details["hub_name"] == NAME
    assert event.details["hub_revision"] == commit_of(NAME, "main")
    assert "very_secret" not in json.dumps(event.details) + answer.text


def test_both_bodies_are_described(client: TestClient) -> None:
    paths = client.get(f"{API}/openapi.json").json()["paths"]
    for path in ("datasets", "datasets/preview"):
        content = paths[f"{API}/{path}"]["post"]["requestBody"]["content"]
        assert set(content) == {"multipart/form-data", "application/json"}
        assert "revision" in content["application/json"]["schema"]["properties"]
