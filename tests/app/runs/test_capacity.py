"""What a run would need and which worker has it, said before it is queued."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, func

from app.core.database import transaction
from app.core.settings import get_settings
from app.local.embedded import Services
from app.store.runs import Worker
from tests.app import factories
from tests.model_folders import write_adapter

API = "/api/v1"
GB = 10**9
CHARACTERS = {name: {"max": 300} for name in ("prompt", "preferred", "dispreferred")}


@pytest.fixture
def dataset_id(database: Services) -> int:
    with transaction() as session:
        return factories.dataset(session, statistics={"characters": CHARACTERS}).id


@pytest.fixture(autouse=True)
def _models(tiny_model_dir: Path, models_dir: Path) -> None:
    shutil.copytree(tiny_model_dir, models_dir / "tiny")
    write_adapter(models_dir / "adapter", "tiny")


def announce(
    name: str, memory: float, kind: str = "cpu", gpus: int = 1, seats: int = 1, **columns: Any
) -> None:
    report = {
        "device_kind": kind,
        "devices": gpus,
        "gpus": gpus,
        "seats": seats,
        "device_memory_bytes": memory,
        "room_bytes": memory,
        "ram_bytes": 64 * GB,
    }
    with transaction() as session:
        session.add(Worker(name=name, device=kind, report=report, **columns))


def ask(client: TestClient, dataset_id: int, kind: str = "train", **config: Any) -> Any:
    body = {"kind": kind, "dataset_id": dataset_id, "config": {"model": "tiny", **config}}
    answer = client.post(f"{API}/runs/capacity", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_without_a_worker_the_need_is_told_and_nothing_judged(
    client: TestClient, dataset_id: int
) -> None:
    found = ask(client, dataset_id)
    assert found["level"] == "unknown"
    assert found["sentence"].startswith("Needs about ")
    assert found["sentence"].endswith("No worker has told what memory it has.")


def test_a_run_that_fits_is_told_with_its_parts(client: TestClient, dataset_id: int) -> None:
    announce("gpu-1", 24 * GB, "cuda")
    found = ask(client, dataset_id)
    assert found["level"] == "ok"
    [worker] = found["workers"]
    assert worker["verdict"] == "fits"
    assert worker["remedies"] == []
    parts = {part["name"]: part["bytes"] for part in worker["parts"]}
    assert parts["optimizer"] == 2 * parts["weights"] == 2 * parts["gradients"]
    assert worker["needs_bytes"] == sum(parts.values())
    assert found["sentence"].endswith("Worker gpu-1 has 24 GB for a run: that fits.")


def test_a_run_that_does_not_fit_names_what_would(client: TestClient, dataset_id: int) -> None:
    announce("large", 24 * GB)
    [one] = ask(client, dataset_id, batch_size=1, optimizer="sgd")["workers"]
    with transaction() as session:
        session.execute(delete(Worker))
    announce("small", int(one["needs_bytes"] / 0.9) + 1)
    found = ask(client, dataset_id, batch_size=1)
    assert found["level"] == "warn"
    [worker] = found["workers"]
    assert worker["verdict"] in ("tight", "too large")
    remedy = {remedy["words"]: remedy for remedy in worker["remedies"]}["sgd as the optimizer"]
    assert remedy["settings"] == {"optimizer": "sgd"}
    assert remedy["needs_bytes"] == one["needs_bytes"]
    assert "sgd as the optimizer" in found["sentence"]
    assert ask(client, dataset_id, batch_size=1, **remedy["settings"])["level"] == "ok"


def test_where_no_setting_is_enough_what_else_would_be_is_said(
    client: TestClient, dataset_id: int
) -> None:
    announce("tiny", 1000)
    found = ask(client, dataset_id)
    assert found["workers"][0]["remedies"] == []
    assert found["sentence"].endswith(
        "What would make it fit: a smaller model, or a larger device."
    )


def test_a_worker_with_several_gpus_spreads_what_it_trains_over_them(
    client: TestClient, dataset_id: int
) -> None:
    announce("one", 24 * GB, "cuda")
    alone = ask(client, dataset_id)["workers"][0]
    with transaction() as session:
        session.execute(delete(Worker))
    announce("four", 24 * GB, "cuda", gpus=4)
    found = ask(client, dataset_id)
    [worker] = found["workers"]
    assert (alone["gpus"], worker["gpus"]) == (1, 4)
    parts = [{part["name"]: part["bytes"] for part in one["parts"]} for one in (alone, worker)]
    assert parts[1]["gradients"] == parts[0]["gradients"] // 4
    assert found["sentence"].endswith("has 24 GB for a run on each of 4 GPUs: that fits.")
    # Other runs take one of them.
    assert ask(client, dataset_id, "evaluate")["workers"][0]["gpus"] == 1


def test_workers_that_train_together_are_one_place_once_all_are_there(
    client: TestClient, dataset_id: int
) -> None:
    announce("ada", 24 * GB, "cuda", gpus=4, seats=2)
    announce("alan", 16 * GB, "cuda", gpus=2, seats=2)  # of another kind
    found = ask(client, dataset_id)
    assert found["level"] == "warn"
    first = found["workers"][0]
    assert (first["worker"], first["gpus"], first["lacks_workers"]) == ("ada", 8, True)
    assert found["sentence"].endswith(
        "on each of 8 GPUs: that fits. It begins once 2 workers like it are there: 1 is now."
    )
    assert ask(client, dataset_id, "score")["level"] == "ok"
    announce("grace", 24 * GB, "cuda", gpus=4, seats=2)
    found = ask(client, dataset_id)
    assert found["level"] == "ok"
    assert found["sentence"].endswith("for a run on each of 8 GPUs: that fits.")
    assert not found["workers"][0]["lacks_workers"]


def test_a_score_run_that_does_not_fit_whole_is_read_layer_by_layer(
    client: TestClient, dataset_id: int
) -> None:
    size = ask(client, dataset_id, "score")
    announce("small", 1000)
    found = ask(client, dataset_id, "score")
    assert found["workers"][0]["streamed"]
    assert "read layer by layer" in found["sentence"]
    assert not ask(client, dataset_id, "score", stream="never")["workers"][0]["streamed"]
    assert size["level"] == "unknown"


def test_the_worker_with_room_is_named_first_and_old_ones_not_at_all(
    client: TestClient, dataset_id: int
) -> None:
    announce("small", 1000)
    announce("large", 24 * GB)
    announce("gone", 80 * GB, seen_at=func.now() - 2 * get_settings().lease)
    with transaction() as session:  # of an earlier version
        session.add(Worker(name="old", device="cpu"))
    found = ask(client, dataset_id)
    assert [worker["worker"] for worker in found["workers"]] == ["large", "small"]
    assert found["level"] == "ok"


def test_a_run_for_a_gpu_is_held_against_workers_that_have_one(
    client: TestClient, dataset_id: int
) -> None:
    announce("cpu", 24 * GB)
    assert ask(client, dataset_id, device="cuda")["level"] == "unknown"
    announce("gpu", 24 * GB, "cuda")
    assert [one["worker"] for one in ask(client, dataset_id, device="cuda")["workers"]] == ["gpu"]
    on_main = ask(client, dataset_id, device="cpu")["workers"]
    assert {one["worker"]: one["memory_bytes"] for one in on_main} == {
        "cpu": 24 * GB,
        "gpu": 64 * GB,
    }


def test_adapters_count_as_their_base_and_results_of_runs_by_their_files(
    client: TestClient, dataset_id: int, models_dir: Path
) -> None:
    whole = ask(client, dataset_id)
    assert ask(client, dataset_id, model="adapter") == whole
    shutil.copytree(models_dir / "tiny", get_settings().run_path(7) / "model")
    assert ask(client, dataset_id, model="run:7") == whole


@pytest.mark.parametrize("model", ["example/absent", "run:8", "run:x", "nothing"])
def test_a_model_that_is_not_here_is_no_reason_to_doubt(
    client: TestClient, dataset_id: int, model: str
) -> None:
    announce("small", 1000)
    found = ask(client, dataset_id, model=model)
    assert found["level"] == "unknown"
    assert model in found["sentence"]


def test_runs_without_a_language_model_need_none(client: TestClient, dataset_id: int) -> None:
    assert "holds no language model" in ask(client, dataset_id, "check")["sentence"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "train", "dataset_id": 1, "config": {"batch_size": 0}}, "config.batch_size"),
        ({"kind": "train", "dataset_id": 10**6, "config": {}}, "dataset_id"),
        ({"kind": "external", "dataset_id": 1, "config": {}}, "kind"),
    ],
)
def test_what_is_wrong_is_named(
    client: TestClient, dataset_id: int, body: dict[str, Any], field: str
) -> None:
    answer = client.post(f"{API}/runs/capacity", json=body | {"dataset_id": dataset_id} | body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_a_queued_run_carries_the_doubt_and_is_not_refused(
    client: TestClient, dataset_id: int
) -> None:
    body = {"kind": "train", "dataset_id": dataset_id, "config": {"model": "tiny"}}
    assert client.post(f"{API}/runs", json=body).json()["messages"] == []
    announce("small", 1000)
    answer = client.post(f"{API}/runs", json=body)
    assert answer.status_code == 201
    [message] = answer.json()["messages"]
    assert "Worker small has 0 MB for a run: that does not fit." in message


def test_a_queued_run_carries_no_count_of_the_workers_that_it_waits_for(
    client: TestClient, dataset_id: int
) -> None:
    """Its page counts them for as long as it waits."""
    announce("ada", 24 * GB, "cuda", gpus=4, seats=2)
    body = {"kind": "train", "dataset_id": dataset_id, "config": {"model": "tiny"}}
    assert client.post(f"{API}/runs/capacity", json=body).json()["level"] == "warn"
    assert client.post(f"{API}/runs", json=body).json()["messages"] == []
