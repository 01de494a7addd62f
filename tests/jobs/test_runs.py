"""Runs from the outside: a whole `chesboard up`, its API, its worker process, the model 'tiny'."""

import json
import math
import os
import signal
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

PAIRS = [
    {"prompt": f"Is {number} a number? Answer in a word.", "chosen": "No", "rejected": "Never"}
    for number in range(6)
]
SLOW = {"model": "tiny", "epochs": 10_000, "batch_size": 1, "probe_every": 50}


@pytest.fixture(scope="module")
def api(live_stack: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{live_stack}/api/v1", timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def dataset_id(api: httpx.Client) -> int:
    lines = "\n".join(json.dumps(pair) for pair in PAIRS)
    answer = api.post("/datasets", files={"file": ("words.jsonl", lines.encode())})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def start(api: httpx.Client, dataset_id: int, kind: str, config: dict[str, object]) -> int:
    answer = api.post("/runs", json={"kind": kind, "dataset_id": dataset_id, "config": config})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def wait(api: httpx.Client, run_id: int, *statuses: str, seconds: float = 60) -> dict:
    deadline = time.monotonic() + seconds
    while True:
        run = api.get(f"/runs/{run_id}").json()
        if run["status"] in statuses:
            return run
        assert time.monotonic() < deadline, run
        time.sleep(0.05)


def wait_for_steps(api: httpx.Client, run_id: int, steps: int) -> None:
    deadline = time.monotonic() + 60
    while len(api.get(f"/runs/{run_id}/metrics").json()["items"]) < steps:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_score_run_ranks_every_pair(api: httpx.Client, dataset_id: int) -> None:
    run_id = start(api, dataset_id, "score", {"model": "tiny"})
    run = wait(api, run_id, "succeeded", "failed")
    assert run["status"] == "succeeded", run["error"]
    assert run["progress"]["done"] == run["progress"]["total"] == len(PAIRS)
    scores = api.get(f"/runs/{run_id}/scores", params={"sort": "-ches"}).json()
    assert scores["total"] == len(PAIRS)
    ches = [item["ches"] for item in scores["items"]]
    assert ches == sorted(ches, reverse=True)


def test_a_run_that_reads_layer_by_layer_says_so_and_has_the_same_scores(
    api: httpx.Client, dataset_id: int
) -> None:
    found = {}
    for stream in ("never", "always"):
        run_id = start(api, dataset_id, "score", {"model": "tiny", "stream": stream})
        run = wait(api, run_id, "succeeded", "failed")
        assert run["status"] == "succeeded", run["error"]
        assert run["device"].endswith(", one layer at a time") == (stream == "always")
        said = [text for text in run["messages"] if "read from disk one by one" in text]
        assert len(said) == (stream == "always")
        found[stream] = api.get(f"/runs/{run_id}/scores").json()["items"]
    assert found["always"] == found["never"]


def test_what_a_run_needs_is_held_against_the_worker_that_is_there(
    api: httpx.Client, dataset_id: int
) -> None:
    body = {"kind": "train", "dataset_id": dataset_id, "config": {"model": "tiny"}}
    found = api.post("/runs/capacity", json=body).json()
    assert found["level"] == "ok"
    [worker] = found["workers"]
    assert worker["needs_bytes"] < worker["room_bytes"] <= worker["memory_bytes"]


def test_a_training_run_leaves_curves_a_balanced_ledger_and_a_model(
    api: httpx.Client, dataset_id: int
) -> None:
    config = {
        "model": "tiny",
        "learning_rate": 1e-3,
        "batch_size": 2,
        "epochs": 2,
        "probes": {"pairs": [0, 3]},
        "probe_every": 1,
        "token_groups": {"affirmative": ["Yes", "Sure"], "negative": ["No"]},
        "opposite_groups": [["affirmative", "negative"]],
    }
    run_id = start(api, dataset_id, "train", config)
    run = wait(api, run_id, "succeeded", "failed")
    assert run["status"] == "succeeded", run["error"]
    metrics = api.get(f"/runs/{run_id}/metrics").json()["items"]
    assert [item["step"] for item in metrics] == [1, 2, 3, 4, 5, 6]
    assert [probe["pair"] for probe in api.get(f"/runs/{run_id}/probes").json()] == [0, 3]
    probe = api.get(f"/runs/{run_id}/probes/3").json()
    assert probe["steps"] == [0, 1, 2, 3, 4, 5, 6]
    listed = [entry["change"] for entry in probe["gainers"] + probe["losers"]]
    assert abs(sum(listed) + probe["rest_change"]) < 1e-5
    fork = probe["fork"]
    for preferred, dispreferred, other in zip(
        fork["preferred_prob"], fork["dispreferred_prob"], fork["other_prob"], strict=True
    ):
        assert abs(preferred + dispreferred + other - 1) < 1e-5
    assert 1 / 2**17 < math.exp(probe["argmax_logprob"]) <= 1
    assert probe["argmax_token"]
    for found in (probe, run, *api.get(f"/runs/{run_id}/probes").json()):
        judged = found["displacement"]
        assert found["displacement_kind"] == judged["kind"]
        assert judged["kind"] in ("kept", "benign", "catastrophic", None)
        gains = [one["gain"] for one in judged["destination_gains"]]
        assert all(abs(gain) <= 1 for gain in gains)
        largest = judged["drawdown"]
        assert largest is None or 0 <= largest["peak_step"] < largest["trough_step"] <= 6
    names = [model["name"] for model in api.get("/models").json()["items"]]
    assert f"run:{run_id}" in names
    # The result can be named as a model, and is not the model that it came from.
    again = start(api, dataset_id, "score", {"model": f"run:{run_id}"})
    assert wait(api, again, "succeeded", "failed")["status"] == "succeeded"


def test_a_run_watches_prompts_and_positions_answers_and_measures(
    api: httpx.Client, dataset_id: int
) -> None:
    config = {
        "model": "tiny",
        "learning_rate": 1e-3,
        "batch_size": 3,
        "epochs": 2,
        "probes": {"pairs": [1], "prompts": [{"prompt": "Is it?", "watch": ["Yes", "zebra"]}]},
        "probe_every": 2,
        "ledger_positions": {"preferred": "all", "dispreferred": "all"},
        "answer_every": 4,
        "answer_tokens": 3,
    }
    scored = start(api, dataset_id, "score", {"model": "tiny"})
    run_id = start(api, dataset_id, "train", config)
    assert wait(api, scored, "succeeded", "failed")["status"] == "succeeded"
    run = wait(api, run_id, "succeeded", "failed")
    assert run["status"] == "succeeded", run["error"]
    assert any("“zebra” is more than one token" in text for text in run["messages"])
    pair, prompt = api.get(f"/runs/{run_id}/probes").json()
    assert (pair["pair"], prompt["pair"], prompt["kind"]) == (1, -1, "prompt")
    assert [group["name"] for group in prompt["groups_list"]] == ["Yes"]
    assert api.get(f"/runs/{run_id}/probes/-1").json()["steps"] == [0, 2, 4]
    for response, positions in pair["positions"].items():
        for position in positions:
            query = {"response": response, "position": position}
            ledger = api.get(f"/runs/{run_id}/probes/1/ledger", params=query).json()
            assert (ledger["step"], ledger["recent"]["since_step"]) == (4, 2)
            for part in (ledger, ledger["recent"]):
                listed = [entry["change"] for entry in part["gainers"] + part["losers"]]
                assert abs(sum(listed) + part["rest_change"]) < 1e-5
            assert ledger["argmax_token"]
            is_behind = response == "dispreferred" and position > pair["fork_position"]
            expected = "squeezing" if is_behind else "geometry"
            assert ledger["prediction_kind"] == (expected if ledger["predicted"] else None)
            assert not is_behind or ledger["predicted"]
    for probe in (1, -1):
        answers = api.get(f"/runs/{run_id}/probes/{probe}/answers").json()["items"]
        assert [answer["step"] for answer in answers] == [0, 4]
    bands = api.get(f"/runs/{run_id}/probes/bands").json()
    assert (bands["steps"], bands["probes"]) == ([0, 2, 4], 1)
    found = api.get(f"/runs/{run_id}/displacement").json()
    assert (found["total"], found["measured"], found["n"]) == (len(PAIRS),) * 3
    assert found["score_run"] == scored
    assert run["summary"]["displacement"]["measured"] == len(PAIRS)


def test_the_same_seed_gives_the_same_curve(api: httpx.Client, dataset_id: int) -> None:
    config = {"model": "tiny", "learning_rate": 1e-3, "batch_size": 2, "seed": 7}
    losses = []
    for _ in range(2):
        run_id = start(api, dataset_id, "train", config)
        assert wait(api, run_id, "succeeded", "failed")["status"] == "succeeded"
        items = api.get(f"/runs/{run_id}/metrics").json()["items"]
        losses.append([item["loss"] for item in items])
    assert losses[0] == losses[1]


def test_a_running_run_stops_soon_after_it_is_cancelled(api: httpx.Client, dataset_id: int) -> None:
    run_id = start(api, dataset_id, "train", SLOW)
    wait(api, run_id, "running")
    wait_for_steps(api, run_id, 3)
    assert api.post(f"/runs/{run_id}/cancel").status_code == 200
    run = wait(api, run_id, "cancelled", seconds=5)
    assert run["finished_at"] is not None
    assert len(api.get(f"/runs/{run_id}/metrics").json()["items"]) >= 3


def test_a_run_that_waits_its_turn_is_cancelled_at_once(api: httpx.Client, dataset_id: int) -> None:
    first = start(api, dataset_id, "train", SLOW)
    wait(api, first, "running")
    second = start(api, dataset_id, "score", {"model": "tiny"})
    answer = api.post(f"/runs/{second}/cancel")
    assert answer.json()["status"] == "cancelled"
    api.post(f"/runs/{first}/cancel")
    wait(api, first, "cancelled")


def test_a_failed_run_says_why_and_can_be_resumed(api: httpx.Client, dataset_id: int) -> None:
    scored = start(api, dataset_id, "score", {"model": "tiny"})
    wait(api, scored, "succeeded")
    every_pair = {"score_run": scored, "measure": "ches", "top_fraction": 1.0}
    assert api.post(f"/datasets/{dataset_id}/flags", json=every_pair).status_code == 200
    config = {"model": "tiny", "batch_size": 2, "selection": {"exclude_flagged": True}}
    run_id = start(api, dataset_id, "train", config)
    run = wait(api, run_id, "failed", "succeeded")
    assert run["status"] == "failed"
    assert "selection leaves no pair" in run["error"]["message"]
    assert "Traceback" in run["error"]["traceback"]
    assert api.delete(f"/datasets/{dataset_id}/flags").is_success
    assert api.post(f"/runs/{run_id}/resume").json()["error"] is None
    assert wait(api, run_id, "failed", "succeeded")["status"] == "succeeded"


def worker_process(api: httpx.Client) -> psutil.Process:
    """The process of the one worker; its name ends with its process id."""
    [worker] = httpx.get(str(api.base_url.copy_with(path="/healthz"))).json()["workers"]
    return psutil.Process(int(worker["name"].rsplit("-", 1)[1]))


def test_a_run_whose_worker_is_killed_goes_on_with_the_next_one(
    api: httpx.Client, dataset_id: int
) -> None:
    config = {
        "model": "tiny",
        "learning_rate": 1e-3,
        "batch_size": 1,
        "epochs": 40,
        "seed": 3,
        "probe_every": 100,
        "checkpoint_every": 20,
    }
    calm = start(api, dataset_id, "train", config)
    assert wait(api, calm, "succeeded", "failed", seconds=120)["status"] == "succeeded"
    killed = start(api, dataset_id, "train", config)
    wait_for_steps(api, killed, 100)
    os.kill(worker_process(api).pid, signal.SIGKILL)
    run = wait(api, killed, "succeeded", "failed", seconds=120)
    assert (run["status"], run["attempts"]) == ("succeeded", 2)

    def curve(run_id: int) -> list[tuple[int, float]]:
        items = api.get(f"/runs/{run_id}/metrics").json()["items"]
        return [(item["step"], item["loss"]) for item in items]

    # Each step once, and bit for bit the same numbers.
    assert curve(killed) == curve(calm)
