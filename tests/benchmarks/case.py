"""One measurement in a process of its own, so that its peak memory is its own: `python -m
tests.benchmarks.case WORKLOAD COUNT CASE MODEL`. Prints one line of JSON."""

import functools
import json
import random
import re
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from chesboard import cpu
from chesboard.configs import ScoreConfig, TrainConfig
from chesboard.cpu.precision import computed_in
from chesboard.forward.packing import row_tokens
from chesboard.forward.select import select_forward
from chesboard.forward.states import PairForward, PairStates
from chesboard.forward.streamed import read_streamed
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.probing.observer import ProbeObserver
from chesboard.records import MetricRecord, Record, ScoreRecord
from chesboard.scoring import score_pairs
from chesboard.tokenization import find_fork, tokenize_pairs
from tests.benchmarks.baselines import score_one_at_a_time, train_with_trl
from tests.benchmarks.least import least_seconds
from tests.benchmarks.workloads import ANSWERS, BATCH_SIZES, MOST_TOKENS, WORKLOADS
from worker.memory import keep_freed_memory
from worker.training.loop import train

LEARNING_RATE = 1e-6
BATCH_TOKENS = ScoreConfig().batch_tokens
WITHOUT_HEAD = "score without the head's measures"
STREAMED = "score layer by layer"
BILLION = "random 1b"
"""The name of a model of random weights, for GPUs."""


def now() -> float:
    """Seconds. Of one thread those that it had the processor for, which a busy machine leaves
    alone; of several threads those on the wall."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


class Ledger:
    """A Reporter that keeps what it is given, and a Control that never stops."""

    def __init__(self) -> None:
        self.metrics: list[MetricRecord] = []
        self.score_records: list[ScoreRecord] = []
        self.messages: list[str] = []

    def put(self, *records: Record) -> None:
        self.metrics.extend(one for one in records if isinstance(one, MetricRecord))
        self.score_records.extend(one for one in records if isinstance(one, ScoreRecord))

    def message(self, text: str) -> None:
        self.messages.append(text)

    def phase(self, *_: object) -> None: ...

    def progress(self, *_: object) -> None: ...
    def flush(self) -> None: ...
    def checkpointed(self) -> None: ...
    def check(self) -> None: ...


def _load(folder: str, case: str) -> LoadedModel:
    training = case.startswith(("train", "trl", "probes"))
    bfloat16 = case.endswith("bfloat16")
    weights = torch.bfloat16 if bfloat16 and not training else torch.float32
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if folder == BILLION:
        model, tokenizer = LlamaForCausalLM(LlamaConfig(**LLAMA_1B)).to(weights), build_tokenizer()
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=weights)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if case.startswith(STREAMED):
        compute = torch.bfloat16 if bfloat16 else torch.float32
        model = read_streamed(folder, Path(folder), compute, device).model
        compute = computed_in(compute, device)
        cpu.install(model, compute_dtype=compute)
        return LoadedModel(model, AutoTokenizer.from_pretrained(folder), device, compute, "bench")
    ours = not case.startswith(("baseline", "trl"))
    compute = torch.bfloat16 if bfloat16 else torch.float32
    if ours:
        compute = computed_in(compute, device)  # as the worker does, and what follows
    model.to(device).eval()
    if ours:
        cpu.install(model, compute_dtype=compute, blockwise_attention=not training)
    return LoadedModel(model, tokenizer, device, compute, "bench")


LLAMA_1B = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
"""The shape of Llama 3.2 1B."""


def build_tokenizer() -> Any:
    """Any: the random model is given token ids. TRL asks for one that can pad."""
    tokenizer = Tokenizer(models.WordLevel({"<end>": 0}, unk_token="<end>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")


def random_tokens(count: int) -> list[TokenizedPair]:
    """Prompts of 1,024 tokens, responses of 256."""
    chooser = random.Random(0)

    def ids(length: int) -> list[int]:
        return [chooser.randrange(1, LLAMA_1B["vocab_size"]) for _ in range(length)]

    pairs = []
    for number in range(count):
        preferred, dispreferred = [*ids(255), 0], [*ids(255), 0]
        ends = list(range(1, 257))
        pairs.append(
            TokenizedPair(
                pair=number,
                prompt_ids=ids(1024),
                preferred_ids=preferred,
                dispreferred_ids=dispreferred,
                fork_position=find_fork(preferred, dispreferred),
                prompt_cut=0,
                preferred_cut=0,
                dispreferred_cut=0,
                retokenized=False,
                preferred_ends=ends,
                dispreferred_ends=ends,
            )
        )
    return pairs


def _score_baseline(loaded: LoadedModel, pairs: list[TokenizedPair]) -> dict[str, Any]:
    score_one_at_a_time(loaded, pairs[:2])
    started = now()
    scores = score_one_at_a_time(loaded, pairs)
    seconds = now() - started
    return {"seconds": seconds, "values": [score.ches for score in scores]}


def _score(loaded: LoadedModel, pairs: list[TokenizedPair]) -> dict[str, Any]:
    config = ScoreConfig(batch_tokens=BATCH_TOKENS)
    score_pairs(loaded, pairs[:2], config, Ledger(), Ledger())
    reporter = Ledger()
    started = now()
    score_pairs(loaded, pairs, config, reporter, reporter)
    seconds = now() - started
    peak = _peak_mib(loaded.device)  # before the product below
    records = sorted(reporter.score_records, key=lambda record: record.pair)
    least = least_seconds(loaded, pairs) if loaded.device.type == "cpu" else 0.0
    values = [record.ches for record in records]
    return {"seconds": seconds, "values": values, "least_seconds": least, "peak_mib": peak}


def _peak_mib(device: torch.device) -> float:
    """Of the whole process so far, or of the GPU's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's ru_maxrss begins with the peak of the process that started this one.
        [kib] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return float(kib) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


class _WithoutHead:
    """A forward pass that is not asked for what is measured at the output head."""

    def __init__(self, forward: PairForward) -> None:
        self.kind = forward.kind
        self.row_tokens = forward.row_tokens
        self._forward = forward

    def __call__(
        self, pairs: list[TokenizedPair], *, logprobs: bool = True, forks: bool = False, **_: bool
    ) -> PairStates:
        return self._forward(pairs, logprobs=logprobs, forks=forks)


def _score_without_head(loaded: LoadedModel, pairs: list[TokenizedPair]) -> dict[str, Any]:
    forward, _ = select_forward(loaded, pairs)
    with patch("chesboard.scoring.ready_forward", return_value=_WithoutHead(forward)):
        return _score(loaded, pairs)


def _train(
    loaded: LoadedModel, pairs: list[TokenizedPair], batch_size: int, probes: int = 0
) -> dict[str, Any]:
    config = TrainConfig(
        objective="dpo",
        learning_rate=LEARNING_RATE,
        batch_size=batch_size,
        shuffle=False,
        batch_tokens=BATCH_TOKENS,
        measure_displacement=False,  # the other side does not
    )
    reporter, at_probes = Ledger(), Stopwatch()
    with patch.multiple(
        ProbeObserver,
        begin=at_probes.around(ProbeObserver.begin),
        observe=at_probes.around(ProbeObserver.observe),
    ):
        started = now()
        with TemporaryDirectory() as folder:
            train(loaded, pairs, config, reporter, reporter, Path(folder), pairs[:probes], None)
        seconds = now() - started
    return {
        "seconds": seconds,
        "values": [metric.loss for metric in reporter.metrics],
        "probe_share": at_probes.seconds / (seconds - at_probes.seconds),
    }


class Stopwatch:
    """Adds up the time that calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Any) -> Any:
        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            started = now()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += now() - started

        return timed


def main(workload: str, count: int, case: str, model: str) -> None:
    torch.manual_seed(0)
    if not case.startswith(("baseline", "trl")):
        keep_freed_memory()  # as the worker does
    if case.startswith("trl"):
        # Before the clock starts. TRL and datasets import lazily.
        from datasets import Dataset  # noqa: F401
        from trl import DPOConfig, DPOTrainer  # noqa: F401
    loaded = _load(model, case)
    if workload == "random tokens":
        pairs = random_tokens(count)
    else:
        made, most = (WORKLOADS | ANSWERS)[workload](count), MOST_TOKENS.get(workload, 4096)
        pairs = tokenize_pairs(loaded.tokenizer, made, 4096, most)
    name, batch_size = case.split()[0], BATCH_SIZES.get(workload, 1)
    if name == "baseline":
        measured = _score_baseline(loaded, pairs)
    elif case == WITHOUT_HEAD:
        measured = _score_without_head(loaded, pairs)
    elif name == "score":
        measured = _score(loaded, pairs)
    elif name == "trl":
        started = now()
        losses = train_with_trl(loaded, pairs, batch_size, LEARNING_RATE, case.endswith("bfloat16"))
        seconds = now() - started
        measured = {"seconds": seconds, "values": losses}
    else:
        measured = _train(loaded, pairs, batch_size, probes=4 if name == "probes" else 0)
    peak = _peak_mib(loaded.device)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    tokens = sum(map(row_tokens, pairs))
    print(json.dumps({"peak_mib": peak, **measured, "parameters": parameters, "tokens": tokens}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
