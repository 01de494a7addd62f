"""The API of studies: what is refused and why, plans on other servers, exports."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.core.database import transaction
from app.core.settings import get_settings
from app.main import create_app
from app.store.runs import Run, Worker
from app.store.studies import Study, StudyRun
from app.studies.exports import export_table
from app.studies.report import readable
from app.studies.results import Cell, CellRun, Column, Result, Spread, Table
from tests.app import factories

PAIRS = [
    *[(f"Is {n}?", "No", "Never") for n in range(3)],
    *[(f"Is {n}?", "Yes", "Sure") for n in range(2)],
    ("Is it?", "Maybe", "Perhaps"),
]


@pytest.fixture
def api(database) -> TestClient:
    """Without its sweeper: no step is taken but by the test."""
    return TestClient(create_app(), base_url="http://127.0.0.1:8000")


@pytest.fixture
def dataset_id(api: TestClient) -> int:
    with transaction() as session:
        return factories.dataset(session, PAIRS, source_sha256="a" * 64).id


def plan(dataset_id: int, **fields: object) -> dict[str, object]:
    return {"kind": "single_pair", "dataset_id": dataset_id, "model": "org/tiny", **fields}


def test_cells_are_the_responses_that_most_prompts_have(api: TestClient, dataset_id: int) -> None:
    preview = api.post("/api/v1/studies/preview", json=plan(dataset_id, max_cells=2)).json()
    found = preview["plan"]["cells"]
    assert [(cell["preferred"], sorted(cell["pairs"])) for cell in found] == [
        ("No", [0, 1, 2]),
        ("Yes", [3, 4]),
    ]
    assert preview["runs"] == 5  # the second cell has two prompts for three seeds
    assert "2 prompts have these responses" in preview["messages"][0]
    assert preview["seconds"] is None


def test_runs_that_no_worker_has_room_for_are_told_of_once_before_they_are_queued(
    api: TestClient, dataset_id: int, models_dir: Path, tiny_model_dir: Path
) -> None:
    shutil.copytree(tiny_model_dir, models_dir / "tiny")
    memory = {"device_memory_bytes": 1000, "room_bytes": 1000, "ram_bytes": 1000}
    with transaction() as session:
        report = {"device_kind": "cpu", "devices": 1, **memory}
        session.add(Worker(name="small", device="cpu", report=report))
    body = plan(dataset_id, model="tiny", max_cells=1, seeds=[0, 1])
    messages = api.post("/api/v1/studies/preview", json=body).json()["messages"]
    [message] = [text for text in messages if "that does not fit" in text]
    assert message.startswith("Its training runs: Needs about")
    with transaction() as session:
        session.query(Worker).delete()
    messages = api.post("/api/v1/studies/preview", json=body).json()["messages"]
    assert not any("fit" in text for text in messages)


def test_a_fine_tuning_is_not_taught_what_the_study_trains_on(
    api: TestClient, dataset_id: int
) -> None:
    body = plan(dataset_id, max_cells=1, seeds=[0, 1], fine_tune={})
    full = api.post("/api/v1/studies/preview", json=body).json()["plan"]
    trained = set(full["cells"][0]["pairs"][:2])
    assert set(full["fine_tune"]["pairs"]) == set(range(6)) - trained


def test_the_cells_of_a_table_link_to_their_runs(api: TestClient, dataset_id: int) -> None:
    made = api.post("/api/v1/studies", json=plan(dataset_id, max_cells=1, seeds=[5]))
    assert made.status_code == 201
    study = api.get(made.headers["Location"]).json()
    (run,) = study["runs"]
    assert (run["cell"], run["seed"], run["role"]) == ("dpo: “No” over “Never”", 5, "train")
    assert api.get(f"/api/v1/runs/{run['run_id']}").json()["config"]["probes"]["pairs"]
    assert study["progress"]["total"] == 1
    assert study["result"] is None
    assert api.get(f"/studies/{study['id']}").status_code == 200
    assert api.get("/studies").text.count(study["name"]) == 1
    assert api.get("/api/v1/studies").json()["total"] == 1


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"dataset_id": 99}, "dataset_id", "There is no dataset 99"),
        ({"model": "nobody"}, "model", "There is no model 'nobody'"),
        ({"pairs": [77]}, "pairs", "The dataset has no pair 77"),
        ({"seeds": []}, "single_pair.seeds", "at least 1 item"),
        ({"config": {"beta": -1}}, "single_pair", "config.beta: Input should be greater than 0"),
        ({"kind": "nothing"}, "", "single_pair"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said_before_anything_is_queued(
    api: TestClient, dataset_id: int, fields: dict[str, object], field: str, message: str
) -> None:
    answer = api.post("/api/v1/studies", json={**plan(dataset_id), **fields})
    assert answer.status_code == 422
    error = answer.json()["errors"][0]
    assert error.get("field", "") == field
    assert message in error["message"]
    assert api.get("/api/v1/studies").json()["total"] == 0
    assert api.get("/api/v1/runs").json()["total"] == 0


def test_a_plan_finds_its_dataset_by_the_hash_of_its_file(api: TestClient, dataset_id: int) -> None:
    body = plan(dataset_id + 7, dataset_sha256="a" * 64)
    assert api.post("/api/v1/studies/preview", json=body).json()["plan"]["dataset_id"] == dataset_id
    body["dataset_sha256"] = "b" * 64
    refused = api.post("/api/v1/studies", json=body)
    assert refused.status_code == 422
    assert "Upload the file" in refused.json()["detail"]


def test_a_downloaded_plan_makes_the_same_study(api: TestClient, dataset_id: int) -> None:
    first = api.post("/api/v1/studies", json=plan(dataset_id, seeds=[0, 1])).json()
    downloaded = api.get(f"/api/v1/studies/{first['id']}/plan.json")
    assert "attachment" in downloaded.headers["content-disposition"]
    again = api.post("/api/v1/studies", json=downloaded.json()).json()
    places = [(run["cell"], run["seed"], run["name"]) for run in first["runs"]]
    assert [(run["cell"], run["seed"], run["name"]) for run in again["runs"]] == places
    assert {**again["plan"], "name": None} == {**first["plan"], "name": None}


def test_a_study_goes_with_its_runs_or_without(api: TestClient, dataset_id: int) -> None:
    ids = [api.post("/api/v1/studies", json=plan(dataset_id, seeds=[0])).json()["id"] for _ in "ab"]
    assert api.delete(f"/api/v1/studies/{ids[0]}").status_code == 409
    for study_id in ids:
        assert api.post(f"/api/v1/studies/{study_id}/cancel").json()["status"] == "cancelled"
    before = api.get("/api/v1/runs").json()["total"]
    assert api.delete(f"/api/v1/studies/{ids[0]}").status_code == 204
    assert api.get("/api/v1/runs").json()["total"] == before
    assert api.delete(f"/api/v1/studies/{ids[1]}?runs=true").status_code == 204
    assert api.get("/api/v1/runs").json()["total"] == before / 2
    with transaction() as session:
        assert session.query(Study).count() == session.query(StudyRun).count() == 0


def saved_model(run_id: int, size: int) -> Path:
    folder = get_settings().run_path(run_id) / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * size)
    return folder


def test_the_models_of_a_study_that_has_ended_can_be_removed(
    api: TestClient, dataset_id: int
) -> None:
    study = api.post("/api/v1/studies", json=plan(dataset_id, seeds=[0, 1])).json()
    at = f"/api/v1/studies/{study['id']}"
    first, second, *_ = [run["run_id"] for run in study["runs"]]
    assert api.delete(f"{at}/models").status_code == 409  # it goes on
    api.post(f"{at}/cancel")
    with transaction() as session:
        for run_id in (first, second):
            session.get_one(Run, run_id).status = "succeeded"
        other = factories.run(session, dataset_id, status="succeeded").id
    folders = [saved_model(first, 1000), saved_model(second, 500)]
    elsewhere = saved_model(other, 7)
    found = api.get(at).json()
    assert found["models"] == {"runs": 2, "bytes": 1500}
    page = " ".join(api.get(f"/studies/{study['id']}").text.split())
    assert "Remove 2 trained models (1.5 kB)" in page

    with transaction() as session:
        config = {"model": f"run:{first}"}
        user = factories.run(session, dataset_id, status="queued", config=config).id
    refused = api.delete(f"{at}/models")
    assert refused.status_code == 409
    assert f"run {user}" in refused.json()["detail"]
    assert all(folder.is_dir() for folder in folders)
    api.post(f"/api/v1/runs/{user}/cancel")

    assert api.delete(f"{at}/models").json() == found["models"]
    assert not any(folder.exists() for folder in folders)
    assert elsewhere.is_dir()
    now = api.get(at).json()
    assert (now["models"], now["runs"]) == ({"runs": 0, "bytes": 0}, found["runs"])
    assert "Remove" not in api.get(f"/studies/{study['id']}").text.split("<main")[1]
    assert api.delete(f"{at}/models").json() == {"runs": 0, "bytes": 0}
    assert api.delete("/api/v1/studies/999/models").status_code == 404


def test_a_cancelled_study_is_taken_up_again(api: TestClient, dataset_id: int) -> None:
    at = f"/api/v1/studies/{api.post('/api/v1/studies', json=plan(dataset_id)).json()['id']}"
    made = api.post(f"{at}/cancel").json()
    assert {run["status"] for run in made["runs"]} == {"cancelled"}
    assert api.post(f"{at}/extend", json={"seeds": [9]}).status_code == 409
    resumed = api.post(f"{at}/resume").json()
    assert resumed["status"] == "running"
    assert {run["status"] for run in resumed["runs"]} == {"queued"}
    assert api.get(f"{at}/table.csv").status_code == 404


def test_a_plan_is_readable_however_many_pairs_it_names() -> None:
    plan = {"pairs": list(range(3)), "config": {"learning_rate": 1e-7}, "words": ["[1,\n 2]"]}
    text = readable(plan)
    assert '"pairs": [ 0, 1, 2 ]' in text
    assert json.loads(text) == plan


def test_a_table_is_exported_with_its_spread_and_its_runs() -> None:
    cell = Cell(
        key="a",
        label="=cell",
        numbers={"change": Spread.of([1.0, 3.0])},
        texts={"words": "2 kept"},
        runs=[CellRun(run_id=4, seed=0, status="succeeded")] * 2,
    )
    columns = [Column(key="change", label="Change"), Column(key="words", label="Words")]
    result = Result(sentences=[], tables=[Table(title="", columns=columns, cells=[cell])])
    (row,) = csv.DictReader(io.StringIO("".join(export_table(result, 0))))
    assert row["cell"] == "'=cell"
    assert [row[f"change_{part}"] for part in ("mean", "n", "low", "high")] == [
        "2.0",
        "2",
        "1.0",
        "3.0",
    ]
    assert float(row["change_sd"]) == pytest.approx(2**0.5)
    assert (row["words"], row["runs"]) == ("2 kept", "4 4")
