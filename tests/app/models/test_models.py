"""Which models can be named in a run."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.core.errors import InvalidInputError
from app.core.settings import get_settings
from app.models.queries import check_model_exists, list_models
from app.store.datasets import Dataset
from app.store.runs import Run


@pytest.fixture(autouse=True)
def _models_folder(database: Any, models_dir: Path) -> None:
    """An empty models folder and an empty database."""


def put(path: Path, *files: str) -> None:
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_bytes(b"12345")


def add_run(session: Session, **columns: Any) -> int:
    dataset = Dataset(
        name="d",
        format="text",
        source_filename="d",
        source_sha256="",
        source_bytes=0,
        pairs=0,
        rejected=0,
        errors=[],
        statistics={},
    )
    session.add(dataset)
    session.flush()
    run = Run(
        **{"kind": "train", "name": "tuned", "status": "succeeded"} | columns,
        dataset_id=dataset.id,
        config={},
    )
    session.add(run)
    session.flush()
    return run.id


def test_models_folder_is_listed_by_name(session: Session, models_dir: Path) -> None:
    put(models_dir, "b/config.json", "b/model-1.safetensors", "b/model-2.safetensors")
    put(models_dir, "a/tiny.gguf", "single.gguf")
    assert [(model.name, model.kind, model.bytes) for model in list_models(session)] == [
        ("a", "gguf", 5),
        ("b", "folder", 10),
        ("single.gguf", "gguf", 5),
    ]


@pytest.mark.parametrize(
    "files",
    [
        ["x/model.safetensors"],  # no config.json
        ["x/config.json", "x/pytorch_model.bin"],  # pickles are not opened
        ["readme.txt"],
        [".hidden.gguf"],
    ],
)
def test_what_is_no_model_is_not_listed(
    session: Session, models_dir: Path, files: list[str]
) -> None:
    put(models_dir, *files)
    assert list_models(session) == []


def test_a_link_that_leads_out_of_the_folder_is_not_listed(
    session: Session, models_dir: Path, tmp_path: Path
) -> None:
    put(tmp_path, "outside/config.json", "outside/model.safetensors", "outside/a.gguf")
    put(models_dir, "inside/config.json", "inside/model.safetensors")
    (models_dir / "out").symlink_to(tmp_path / "outside")
    (models_dir / "out.gguf").symlink_to(tmp_path / "outside" / "a.gguf")
    (models_dir / "alias").symlink_to(models_dir / "inside")
    (models_dir / "broken").symlink_to(tmp_path / "nothing")
    assert [model.name for model in list_models(session)] == ["alias", "inside"]


def test_missing_models_folder_is_an_empty_one(session: Session, models_dir: Path) -> None:
    models_dir.rmdir()
    assert list_models(session) == []


def test_results_of_training_runs_are_models(session: Session) -> None:
    done = add_run(session)
    gone = add_run(session)
    failed = add_run(session, status="failed")
    scored = add_run(session, kind="score")
    for run in (done, failed, scored):
        put(get_settings().run_path(run) / "model", "model.safetensors")
    [model] = list_models(session)
    assert (model.name, model.kind, model.bytes) == (f"run:{done}", "run", 5)
    assert "tuned" in model.label
    with pytest.raises(InvalidInputError):
        check_model_exists(session, f"run:{gone}")


def test_listing_tells_no_path(client: TestClient, models_dir: Path) -> None:
    put(models_dir, "single.gguf")
    answer = client.get("/api/v1/models")
    assert answer.json()["total"] == 1
    assert str(models_dir) not in answer.text


@pytest.mark.parametrize("name", ["single.gguf", "org/some-model_1.5"])
def test_known_or_hub_name_passes(session: Session, models_dir: Path, name: str) -> None:
    put(models_dir, "single.gguf")
    check_model_exists(session, name)


@pytest.mark.parametrize(
    "name",
    ["other", "../single.gguf", "/etc/passwd", "org/../x", "a/b/c", "../x", "org/.x", "run:1", ""],
)
def test_unknown_name_is_refused_and_the_known_ones_listed(
    session: Session, models_dir: Path, name: str
) -> None:
    put(models_dir, "single.gguf")
    with pytest.raises(InvalidInputError) as caught:
        check_model_exists(session, name)
    [error] = caught.value.errors
    assert error["field"] == "config.model"
    assert "There are: single.gguf." in error["message"]


def test_empty_models_folder_says_how_to_fill_it(session: Session) -> None:
    with pytest.raises(InvalidInputError, match="chesboard models pull"):
        check_model_exists(session, "other")
