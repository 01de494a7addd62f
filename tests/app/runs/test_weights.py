"""The download of a trained model: whole, streamed, and refused with the reason."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.runs import weights
from tests.app import factories


def make_run(session: Session, **columns: Any) -> int:
    run = factories.run(session, factories.dataset(session).id, **columns)
    session.commit()
    return run.id


def test_the_result_comes_as_a_zip_of_its_folder(client: TestClient, session: Session) -> None:
    run_id = make_run(session, status="succeeded")
    folder = get_settings().run_path(run_id) / "model"
    folder.mkdir(parents=True)
    weights_bytes = bytes(range(256)) * 10_000  # more than one piece
    (folder / "model.safetensors").write_bytes(weights_bytes)
    (folder / "config.json").write_text("{}")
    answer = client.get(f"/api/v1/runs/{run_id}/weights")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert f'filename="run-{run_id}.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            f"run-{run_id}/config.json",
            f"run-{run_id}/model.safetensors",
        ]
        assert archive.read(f"run-{run_id}/model.safetensors") == weights_bytes
        kinds = {entry.compress_type for entry in archive.infolist()}
    assert kinds == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("status", ["queued", "running"])
def test_an_unfinished_run_is_a_conflict(client: TestClient, session: Session, status: str) -> None:
    answer = client.get(f"/api/v1/runs/{make_run(session, status=status)}/weights")
    assert answer.status_code == 409
    assert status in answer.json()["detail"]


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("score", "succeeded", "only training leaves a model"),
        ("train", "failed", "has left no model (failed)"),
        ("train", "succeeded", "has left no model (succeeded)"),
    ],
)
def test_where_there_is_no_model_the_answer_says_why(
    client: TestClient, session: Session, kind: str, status: str, words: str
) -> None:
    answer = client.get(f"/api/v1/runs/{make_run(session, kind=kind, status=status)}/weights")
    assert answer.status_code == 404
    assert words in answer.json()["detail"]


def test_a_run_that_is_not_there_is_not_found(client: TestClient) -> None:
    assert client.get("/api/v1/runs/999999/weights").status_code == 404


def test_no_piece_holds_more_than_a_chunk_of_a_file(tmp_path: Path) -> None:
    """Memory does not grow with the model."""
    (tmp_path / "model.safetensors").write_bytes(b"x" * (3 * weights.CHUNK + 7))
    pieces = list(weights.zip_stream(tmp_path, "run-1"))
    assert max(map(len, pieces)) < weights.CHUNK + 1000


def test_a_run_deleted_meanwhile_is_still_sent_whole(tmp_path: Path) -> None:
    for name in ("a.json", "model.safetensors"):
        (tmp_path / name).write_bytes(name.encode() * 10)
    stream = weights.zip_stream(tmp_path, "run-1")
    first = next(stream)
    for file in tmp_path.iterdir():
        file.unlink()
    with zipfile.ZipFile(io.BytesIO(first + b"".join(stream))) as archive:
        assert archive.read("run-1/model.safetensors") == b"model.safetensors" * 10


# --- removal ----------------------------------------------------------------------------------


def with_model(session: Session, **columns: Any) -> int:
    run_id = make_run(session, **{"status": "succeeded", **columns})
    folder = get_settings().run_path(run_id) / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    return run_id


def test_a_model_is_removed_and_its_run_stays(client: TestClient, session: Session) -> None:
    run_id = with_model(session)
    (get_settings().run_path(run_id) / "other.json").write_text("{}")
    assert client.delete(f"/api/v1/runs/{run_id}/weights").status_code == 204
    assert client.get(f"/api/v1/runs/{run_id}").json()["status"] == "succeeded"
    assert [path.name for path in get_settings().run_path(run_id).iterdir()] == ["other.json"]
    assert client.get("/api/v1/models").json()["items"] == []
    assert client.delete(f"/api/v1/runs/{run_id}/weights").status_code == 404


def test_a_removal_that_was_cut_off_is_completed(session: Session) -> None:
    run_id = with_model(session)
    half = get_settings().run_path(run_id) / "model.removed"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"x")
    weights.remove_result(run_id)
    assert list(get_settings().run_path(run_id).iterdir()) == []


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_model_stays_while_a_run_needs_it(
    client: TestClient, session: Session, status: str
) -> None:
    run_id = with_model(session)
    dataset_id = factories.dataset(session).id
    config = {"model": f"run:{run_id}"}
    user = factories.run(session, dataset_id, kind="generate", status=status, config=config)
    session.commit()
    answer = client.delete(f"/api/v1/runs/{run_id}/weights")
    assert answer.status_code == 409
    assert f"run {user.id}" in answer.json()["detail"]
    assert (get_settings().run_path(run_id) / "model").is_dir()


def test_an_unfinished_run_keeps_what_it_saves(client: TestClient, session: Session) -> None:
    run_id = with_model(session, status="running")
    assert client.delete(f"/api/v1/runs/{run_id}/weights").status_code == 409
