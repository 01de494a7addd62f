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
