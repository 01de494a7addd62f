"""One measurement in a process of its own, so that its peak memory is its own: `python -m
tests.benchmarks.case WORKLOAD COUNT CASE MODEL`. Prints one line of JSON."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.runs.configs import ScoreConfig, TrainConfig
from app.runs.records import MetricRecord, ScoreRecord
from tests.benchmarks.baselines import score_one_at_a_time, train_with_trl
from tests.benchmarks.workloads import WORKLOADS
from worker.loaded import LoadedModel
from worker.scoring import score_pairs
from worker.tokenising import TokenisedPair, tokenise_pairs
from worker.training import train

BATCH_SIZE = 8
LEARNING_RATE = 1e-6
BATCH_TOKENS = 4096


class Ledger:
    """A Sink that keeps what it is given, and a Control that never stops."""

    def __init__(self) -> None:
        self.metrics: list[MetricRecord] = []
        self.score_records: list[ScoreRecord] = []
        self.messages: list[str] = []

    def metric(self, record: MetricRecord) -> None:
        self.metrics.append(record)

    def scores(self, records: Any) -> None:
        self.score_records.extend(records)

    def message(self, text: str) -> None:
        self.messages.append(text)

    def progress(self, *_: object) -> None: ...
    def probe(self, *_: object) -> None: ...
    def probe_step(self, *_: object) -> None: ...
    def position(self, *_: object) -> None: ...
    def position_step(self, *_: object) -> None: ...
    def answer(self, *_: object) -> None: ...
    def finals(self, *_: object) -> None: ...
    def reference(self, *_: object) -> None: ...
    def flush(self) -> None: ...
    def check(self) -> None: ...


def _load(folder: str, case: str) -> LoadedModel:
    training = case.startswith(("train", "trl", "probes"))
    bfloat16 = case.endswith("bfloat16")
    weights = torch.bfloat16 if bfloat16 and not training else torch.float32
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=weights).to(device).eval()
    compute = torch.bfloat16 if bfloat16 else torch.float32
    return LoadedModel(model, AutoTokenizer.from_pretrained(folder), device, compute, "bench")


def _score_baseline(loaded: LoadedModel, pairs: list[TokenisedPair]) -> tuple[list[float], float]:
    score_one_at_a_time(loaded, pairs[:2])
    started = time.perf_counter()
    scores = score_one_at_a_time(loaded, pairs)
    return [score.ches for score in scores], time.perf_counter() - started


def _score(loaded: LoadedModel, pairs: list[TokenisedPair]) -> tuple[list[float], float]:
    config = ScoreConfig(batch_tokens=BATCH_TOKENS)
    score_pairs(loaded, pairs[:2], config, Ledger(), Ledger())
    sink = Ledger()
    started = time.perf_counter()
    score_pairs(loaded, pairs, config, sink, sink)
    seconds = time.perf_counter() - started
    records = sorted(sink.score_records, key=lambda record: record.pair)
    return [record.ches or 0.0 for record in records], seconds


def _train(
    loaded: LoadedModel, pairs: list[TokenisedPair], probes: int = 0
) -> tuple[list[float], float]:
    config = TrainConfig(
        objective="dpo",
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        shuffle=False,
        batch_tokens=BATCH_TOKENS,
        measure_displacement=False,  # the other side does not
    )
    sink = Ledger()
    started = time.perf_counter()
    train(loaded, pairs, config, sink, sink, Path("/nonexistent"), pairs[:probes], None)
    seconds = time.perf_counter() - started
    return [metric.loss for metric in sink.metrics], seconds


def main(workload: str, count: int, case: str, model: str) -> None:
    torch.manual_seed(0)
    loaded = _load(model, case)
    pairs = tokenise_pairs(loaded.tokenizer, WORKLOADS[workload](count), 4096, 4096)
    name = case.split()[0]
    if name == "baseline":
        values, seconds = _score_baseline(loaded, pairs)
    elif name == "score":
        values, seconds = _score(loaded, pairs)
    elif name == "trl":
        values, seconds = train_with_trl(
            loaded, pairs, BATCH_SIZE, LEARNING_RATE, case.endswith("bfloat16")
        )
    else:
        values, seconds = _train(loaded, pairs, probes=4 if name == "probes" else 0)
    if loaded.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({"seconds": seconds, "values": values, "peak_mib": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
