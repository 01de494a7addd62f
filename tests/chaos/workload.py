"""The runs that are disturbed, long enough to be disturbed in the middle."""

import json
import random
import time
from collections.abc import Iterable
from typing import Any

import httpx

from tests.chaos.stack import Stack

TRAIN_PAIRS = 24
SCORE_PAIRS = 6000
"""Three shards."""
FINAL = ("succeeded", "failed", "cancelled")
WORDS = ["Yes", "No", "Never", "Sure", "Certainly", "Maybe", "Perhaps"]

TRAIN = {
    "model": "tiny",
    "learning_rate": 1e-3,
    "batch_size": 4,
    "epochs": 10_000,
    "seed": 5,
    "probes": {"pairs": [0, 7], "prompts": [{"prompt": "Is it?", "watch": ["Yes", "No"]}]},
    "probe_every": 5,
    "answer_every": 100,
    "answer_tokens": 3,
    "ledger_positions": {"preferred": [1], "dispreferred": []},
    "token_groups": {"affirmative": ["Yes", "Sure"]},
    "checkpoint_every": 10,
    "lora": {"rank": 4, "dropout": 0.1},
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "long training": ("train", {**TRAIN, "max_steps": 500}),
    "training": ("train", {**TRAIN, "max_steps": 300}),
    "reference pass": (
        "train",
        {"model": "tiny", "batch_tokens": 32, "max_steps": 3, "measure_displacement": False},
    ),
    "scoring": ("score", {"model": "tiny", "batch_tokens": 128}),
    "short scoring": ("score", {"model": "tiny"}),
}
MANY = ("reference pass",)
"""Training runs over as many pairs as are scored."""


class Runs:
    """The dashboard's API, as someone who starts runs uses it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.client = httpx.Client(base_url=f"{stack.url}/api/v1", timeout=30)
        self.datasets = {
            "train": self._upload("few", TRAIN_PAIRS),
            "score": self._upload("many", SCORE_PAIRS),
        }
        self.calm: dict[str, int] = {}
        self.calm_seconds: dict[str, float] = {}

    def _upload(self, name: str, count: int) -> int:
        draw = random.Random(count)
        pairs = [
            {
                "prompt": f"Question {number}: " + " ".join(draw.choices(WORDS, k=number % 17)),
                "chosen": " ".join(draw.choices(WORDS, k=1 + number % 5)),
                "rejected": " ".join(draw.choices(WORDS, k=1 + number % 3)) + f" {number}",
            }
            for number in range(count)
        ]
        lines = "\n".join(json.dumps(pair) for pair in pairs)
        answer = self.client.post("/datasets", files={"file": (f"{name}.jsonl", lines.encode())})
        answer.raise_for_status()
        return int(answer.json()["id"])

    def start(self, name: str) -> int:
        kind, config = CONFIGS[name]
        dataset_id = self.datasets["score" if name in MANY else kind]
        body = {"kind": kind, "dataset_id": dataset_id, "config": config}
        answer = self.client.post("/runs", json=body)
        answer.raise_for_status()
        return int(answer.json()["id"])

    def resume(self, run_id: int) -> None:
        self.client.post(f"/runs/{run_id}/resume").raise_for_status()

    def run_undisturbed(self, names: Iterable[str]) -> None:
        """A run of each kind that nothing happens to."""
        self.calm = {name: self.start(name) for name in sorted(names)}
        for name, run_id in self.calm.items():
            row = self.wait(run_id)
            assert row["status"] == "succeeded", row
            times = "SELECT extract(epoch FROM finished_at - started_at) FROM runs WHERE id = %s"
            [(seconds,)] = self.stack.query(times, run_id)
            self.calm_seconds[name] = float(seconds)

    def row(self, run_id: int) -> dict[str, Any]:
        """Where the run stands, read from the store, which may be away for a while."""
        names = ("status", "worker", "tries_here", "attempts", "progress_done", "error")
        [row] = self.stack.query(f"SELECT {', '.join(names)} FROM runs WHERE id = %s", run_id)
        return dict(zip(names, row, strict=True))

    def wait(self, run_id: int, seconds: float = 600) -> dict[str, Any]:
        """The run's row once it is over."""
        deadline = time.monotonic() + seconds
        while True:
            self.stack.tend_workers()
            row = self.row(run_id)
            if row["status"] in FINAL:
                return row
            if time.monotonic() > deadline:
                raise AssertionError(f"run {run_id} did not end: {row}\n{self.stack.words()}")
            time.sleep(0.05)

    def wait_for_worker(self, run_id: int, attempts: int, seconds: float = 240) -> dict[str, Any]:
        """The row once this try has begun, or the run is over."""
        deadline = time.monotonic() + seconds
        while True:
            self.stack.tend_workers()
            row = self.row(run_id)
            if row["status"] in FINAL or (
                row["status"] == "running" and row["attempts"] >= attempts
            ):
                return row
            if time.monotonic() > deadline:
                raise AssertionError(f"nobody took run {run_id}: {row}\n{self.stack.words()}")
            time.sleep(0.02)


def pid_of(row: dict[str, Any]) -> int:
    """A worker's name ends with its process id."""
    return int(row["worker"].rsplit("-", 1)[1])
