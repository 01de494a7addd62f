"""The runs that are disturbed, long enough to be disturbed in the middle."""

import json
import random
import time
from typing import Any

import httpx

from tests.chaos.bystander import Waited
from tests.chaos.models import LARGE, TINY, WEDGED
from tests.chaos.stack import Stack
from tests.support import OPERATOR_TOKEN, bearer

TRAIN_PAIRS = 24
SCORE_PAIRS = 10_000
"""Five shards."""
FINAL = ("succeeded", "failed", "cancelled")
WORDS = ["Yes", "No", "Never", "Sure", "Certainly", "Maybe", "Perhaps"]

TRAIN = {
    "model": TINY,
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
SMALL = "small scoring"
CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "long training": ("train", "few", {**TRAIN, "max_steps": 500}),
    "training": ("train", "few", {**TRAIN, "max_steps": 300}),
    "training on two ranks": ("train", "few", {**TRAIN, "max_steps": 150}),
    "training on two seats": ("train", "few", {**TRAIN, "max_steps": 150}),
    "training a GGUF": ("train", "few", {**TRAIN, "max_steps": 10, "model": LARGE}),
    "reference pass": (
        "train",
        "many",
        {"model": TINY, "batch_tokens": 32, "max_steps": 3, "measure_displacement": False},
    ),
    "scoring": ("score", "many", {"model": TINY, "batch_tokens": 128}),
    "short scoring": ("score", "many", {"model": TINY}),
    SMALL: ("score", "few", {"model": TINY}),
    "wedged scoring": ("score", "few", {"model": WEDGED}),
    "wedged training": ("train", "few", {"model": WEDGED, "max_steps": 1}),
}
"""By name: the kind, the dataset and the configuration."""


class Runs:
    """The dashboard's API, as someone who starts runs uses it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.client = httpx.Client(
            base_url=f"{stack.url}/api/v1", timeout=30, headers=bearer(OPERATOR_TOKEN)
        )
        self.datasets = {
            "few": self._upload("few", TRAIN_PAIRS),
            "many": self._upload("many", SCORE_PAIRS),
        }
        self.calm: dict[str, int] = {}
        self.calm_seconds: dict[str, float] = {}
        self.calm_others: dict[str, Waited] = {}
        """What a bystander waited, by the run."""

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
        kind, dataset, config = CONFIGS[name]
        return self.queue(kind, self.datasets[dataset], config)

    def queue(self, kind: str, dataset_id: int, config: dict[str, Any]) -> int:
        body = {"kind": kind, "dataset_id": dataset_id, "config": config}
        answer = self.client.post("/runs", json=body)
        answer.raise_for_status()
        return int(answer.json()["id"])

    def cancel(self, run_id: int) -> None:
        self.client.post(f"/runs/{run_id}/cancel").raise_for_status()

    def resume(self, run_id: int) -> None:
        self.client.post(f"/runs/{run_id}/resume").raise_for_status()

    def undisturbed(self, name: str) -> int:
        """A run of this kind that nothing happens to; made once."""
        if name not in self.calm:
            run_id = self.start(name)
            row = self.wait(run_id)
            assert row["status"] == "succeeded", row
            self.calm[name], self.calm_seconds[name] = run_id, self.seconds(run_id)
        return self.calm[name]

    def seconds(self, run_id: int, since: str = "started_at") -> float:
        """That it took until it had ended."""
        query = f"SELECT extract(epoch FROM finished_at - {since}) FROM runs WHERE id = %s"
        [(seconds,)] = self.stack.query(query, run_id)
        return float(seconds)

    def row(self, run_id: int) -> dict[str, Any]:
        """Where the run stands, read from the store, which may be away for a while."""
        names = ("status", "worker", "tries_here", "attempts", "progress_done", "phase", "error")
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
