"""Which models can be named in a run."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.core.errors import InvalidInputError
from app.core.settings import get_settings
from app.models.queries import check_model_exists, check_revision, list_models
from app.store.datasets import Dataset
from app.store.runs import Run
from tests.model_folders import GGUF, write_adapter, write_model


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
    write_model(models_dir / "b")
    (models_dir / "a").mkdir()
    (models_dir / "a" / "tiny.gguf").write_bytes(GGUF)
    (models_dir / "single.gguf").write_bytes(GGUF)
    weights = (models_dir / "b" / "model.safetensors").stat().st_size
    assert [(m.name, m.kind, m.bytes, m.problem) for m in list_models(session)] == [
        ("a", "gguf", 8, None),
        ("b", "folder", weights, None),
        ("single.gguf", "gguf", 8, None),
    ]


@pytest.mark.parametrize("files", [["readme.txt"], [".hidden.gguf"], ["notes/a.txt"]])
def test_what_is_no_model_is_not_listed(
    session: Session, models_dir: Path, files: list[str]
) -> None:
    put(models_dir, *files)
    assert list_models(session) == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["x/model.safetensors"], "config.json is missing"),
        (["x/config.json", "x/pytorch_model.bin"], "pickled weights of PyTorch only"),
        (["x/config.json"], "model.safetensors is missing"),
    ],
)
def test_what_looks_like_a_model_but_is_none_is_listed_and_refused_with_its_reason(
    session: Session, models_dir: Path, files: list[str], reason: str
) -> None:
    put(models_dir, *files)
    [model] = list_models(session)
    assert reason in (model.problem or "")
    with pytest.raises(InvalidInputError) as caught:
        check_model_exists(session, "x")
    [error] = caught.value.errors
    assert error["field"] == "config.model"
    assert (model.problem or "-") in error["message"]


def test_a_run_with_a_model_that_cannot_be_used_is_not_queued(
    client: TestClient, session: Session, models_dir: Path
) -> None:
    write_model(models_dir / "reward", architectures=["LlamaForSequenceClassification"])
    uploaded = client.post(
        "/api/v1/datasets",
        files={"file": ("a.jsonl", b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n')},
    )
    wanted = {
        "kind": "score",
        "dataset_id": uploaded.json()["id"],
        "config": {"model": "reward"},
    }
    answer = client.post("/api/v1/runs", json=wanted)
    assert answer.status_code == 422
    assert "a classifier or reward model" in answer.text
    form = client.get(f"/datasets/{wanted['dataset_id']}/new?kind=score")
    assert form.status_code == 200
    assert "1 model cannot be used" in form.text


def test_links_are_followed(session: Session, models_dir: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "outside")
    (tmp_path / "a.gguf").write_bytes(GGUF)
    (models_dir / "out").symlink_to(tmp_path / "outside")
    (models_dir / "out.gguf").symlink_to(tmp_path / "a.gguf")
    (models_dir / "broken").symlink_to(tmp_path / "nothing")
    found = {model.name: model.problem for model in list_models(session)}
    assert found == {
        "out": None,
        "out.gguf": None,
        "broken": "This is a link that leads to nothing.",
    }
    check_model_exists(session, "out")


def test_an_adapter_is_listed_with_its_base(session: Session, models_dir: Path) -> None:
    write_model(models_dir / "tiny")
    write_adapter(models_dir / "here", "/home/me/models/tiny")
    write_adapter(models_dir / "hub", "org/base")
    write_adapter(models_dir / "lost", "/home/me/models/other")
    found = {m.name: m for m in list_models(session) if m.kind == "adapter"}
    assert {name: m.base for name, m in found.items()} == {
        "here": "tiny",
        "hub": "org/base",
        "lost": "/home/me/models/other",
    }
    assert found["here"].label == "here (adapter of tiny)"
    assert found["here"].problem is found["hub"].problem is None
    assert "as “other”" in (found["lost"].problem or "")


def test_a_model_with_an_adapter_beside_it_says_so(session: Session, models_dir: Path) -> None:
    write_adapter(write_model(models_dir / "tiny"), "org/tiny")
    assert [model.label for model in list_models(session)] == ["tiny (with adapter)"]


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
    (models_dir / "single.gguf").write_bytes(GGUF)
    answer = client.get("/api/v1/models")
    assert answer.json()["total"] == 1
    assert str(models_dir) not in answer.text


@pytest.mark.parametrize("name", ["single.gguf", "org/some-model_1.5"])
def test_known_or_hub_name_passes(session: Session, models_dir: Path, name: str) -> None:
    (models_dir / "single.gguf").write_bytes(GGUF)
    check_model_exists(session, name)


@pytest.mark.parametrize(
    "name",
    ["other", "../single.gguf", "/etc/passwd", "org/../x", "a/b/c", "../x", "org/.x", "run:1", ""],
)
def test_unknown_name_is_refused_and_the_known_ones_listed(
    session: Session, models_dir: Path, name: str
) -> None:
    (models_dir / "single.gguf").write_bytes(GGUF)
    with pytest.raises(InvalidInputError) as caught:
        check_model_exists(session, name)
    [error] = caught.value.errors
    assert error["field"] == "config.model"
    assert "There are: single.gguf." in error["message"]


def test_empty_models_folder_says_how_to_fill_it(session: Session) -> None:
    with pytest.raises(InvalidInputError, match="chesboard models pull"):
        check_model_exists(session, "other")


def test_only_models_of_the_hub_have_revisions(session: Session, models_dir: Path) -> None:
    (models_dir / "tiny").mkdir()
    (models_dir / "tiny" / "config.json").write_text("{}")
    (models_dir / "tiny" / "model.safetensors").touch()
    check_revision(session, "org/name", "v1")
    check_revision(session, "tiny", None)
    with pytest.raises(InvalidInputError, match="only models of the hub") as caught:
        check_revision(session, "tiny", "v1")
    assert caught.value.errors[0]["field"] == "config.revision"
