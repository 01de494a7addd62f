"""A training in its user's process, recorded by the server: the client against the real API."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from fastapi.testclient import TestClient

import chesboard
from chesboard.client import wire
from chesboard.client.sync import sync
from tests.tiny_models import load, random_pairs

PAIRS = random_pairs(2)
URL = "http://127.0.0.1:8000"


@pytest.fixture
def _through_the_app(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's requests go to the application without a socket."""

    class Through:
        def __init__(self, base_url: str, headers: dict[str, str], **_: Any) -> None:
            self._prefix, self._headers = httpx.URL(base_url).path, headers

        def request(self, method: str, path: str, **request: Any) -> Any:
            headers = self._headers | request.pop("headers", {})
            path = self._prefix.rstrip("/") + path
            return client.request(method, path, headers=headers, **request)

        def close(self) -> None: ...

    monkeypatch.setattr(httpx, "Client", Through)


def train(loaded: Any, watch: Any, steps: range) -> None:
    optimizer = torch.optim.SGD(loaded.model.parameters(), 1e-2)
    ids = torch.arange(8)[None]
    for step in steps:
        loss = loaded.model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        watch.step(step, {"loss": loss, "rewards/margins": 0.1 * step, "epoch": 1})


def begin(loaded: Any, folder: Path, mode: str, **settings: Any) -> Any:
    return chesboard.watch(
        loaded.model, loaded.tokenizer, PAIRS, url=URL, mode=mode, output_dir=folder,
        probe_every=2, prompts=["ab"], answer_every=4, answer_tokens=2, name="outside",
        config={"trainer": "a loop", "beta": 0.1, "max_steps": 8}, **settings,
    )  # fmt: skip


def undisturbed(folder: Path, mode: str) -> None:
    loaded = load()
    watch = begin(loaded, folder, mode)
    train(loaded, watch, range(1, 9))
    watch.finish()
    assert watch.failures == 0


def interrupted(folder: Path, mode: str) -> None:
    """Killed at step 6, and resumed from the checkpoint of step 4."""
    loaded = load()
    watch = begin(loaded, folder, mode)
    train(loaded, watch, range(1, 5))
    weights = {name: one.clone() for name, one in loaded.model.state_dict().items()}
    watch.save(folder, 4)
    train(loaded, watch, range(5, 7))
    if mode == "online":
        watch.finish("failed", "killed")
    loaded.model.load_state_dict(weights)
    watch = begin(loaded, folder, mode, resume=folder)
    train(loaded, watch, range(5, 9))
    watch.finish()
    assert watch.failures == 0


def as_shown(client: TestClient, run: dict[str, Any]) -> dict[str, Any]:
    """What pages show of a run, without what tells when it was."""
    at = f"/api/v1/runs/{run['id']}"
    metrics = client.get(f"{at}/metrics").json()["items"]
    for one in metrics:
        one.pop("recorded_at", None)
        one.pop("revision", None)
    found = {"metrics": metrics}
    for pair in (0, 1, -1):
        probe = client.get(f"{at}/probes/{pair}").json()
        found[f"probe {pair}"] = {
            name: value for name, value in probe.items() if "revision" not in name
        }
    found["answers"] = [
        (one["step"], one["text"]) for one in client.get(f"{at}/probes/0/answers").json()["items"]
    ]
    return found


def newest(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/v1/runs").json()["items"][0]
    return found


@pytest.mark.usefixtures("_through_the_app")
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_run_that_was_killed_and_resumed_is_shown_as_one_that_was_not(
    client: TestClient, tmp_path: Path, mode: str
) -> None:
    shown = []
    trainings: list[Callable[[Path, str], None]] = [undisturbed, interrupted]
    for training in trainings:
        folder = tmp_path / training.__name__
        folder.mkdir()
        training(folder, mode)
        if mode == "offline":
            for one in sync(folder, wire.Wire(URL, None), watch=False, say=print):
                assert one.problem is None
        run = newest(client)
        assert (run["kind"], run["status"], run["name"]) == ("external", "succeeded", "outside")
        shown.append(as_shown(client, run))
    assert [one["step"] for one in shown[0]["metrics"]] == list(range(1, 9))
    assert shown[0]["metrics"][7]["margin"] == pytest.approx(8.0)
    assert shown[0]["probe 0"]["steps"] == [0, 2, 4, 6, 8]
    assert [step for step, _ in shown[0]["answers"]] == [0, 4, 8]
    assert json.dumps(shown[1], sort_keys=True) == json.dumps(shown[0], sort_keys=True)
