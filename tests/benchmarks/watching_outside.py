"""What the callback costs a training by TRL: the same steps with and without it, side by side.

Alone: `python -m tests.benchmarks.watching_outside PAIRS BATCH`.
"""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from chesboard.client.callback import Callback
from chesboard.model import LoadedModel
from chesboard.tokenization import tokenize_pairs
from tests.benchmarks import baselines
from tests.benchmarks.case import Stopwatch
from tests.benchmarks.measuring import WrongFigureError
from tests.benchmarks.starter import starter_folder
from tests.benchmarks.workloads import WORKLOADS

COLUMNS = ("training", "steps of pairs", "seconds a step", "of them watching", "overhead", "floor")
ABOUT = """TRL's DPOTrainer on persona pairs, with `chesboard.Callback()` as it is by default (4
pairs every 10 steps; records to the disk) and without, one after the other in one process. Seconds
of the processor, on one thread. *Overhead*: the seconds in the callback (looks, what is logged, and
writing both) over all others of the same run, since two runs differ by more than the few percent
that are asked about; the first look, before step 1, is not among them. Both have the same losses to
the last digit, or the benchmark fails."""
MOST = 0.05
EVENTS = ("on_step_end", "on_log")
"""Of the trainer, at which the callback does something during the steps."""


def rows(pairs: int = 80, batch: int = 8) -> Iterable[Sequence[str]]:
    torch.set_num_threads(1)
    alone, alone_losses, _ = measure(pairs, batch, is_watched=False)
    steps = len(alone_losses)
    yield ("TRL", f"{steps} x {batch}", f"{alone / steps:.2f}", "", "", "")
    seconds, losses, watching = measure(pairs, batch, is_watched=True)
    if losses != alone_losses:
        raise WrongFigureError("the callback changed the training")
    share = watching / (seconds - watching)
    floor = f"{MOST:.0%} at most" + ("" if share <= MOST else ", missed")
    yield (
        "TRL with the callback", f"{steps} x {batch}", f"{seconds / steps:.2f}",
        f"{watching / steps:.3f}", f"{share:+.1%}", floor,
    )  # fmt: skip


class FromFirstStep(TrainerCallback):
    """When the first step began and the last one had ended and was logged."""

    began = ended = 0.0

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.began = self.began or time.process_time()

    def on_step_end(self, *_: object, **__: object) -> None:
        self.ended = time.process_time()

    def on_log(self, *_: Any, logs: Mapping[str, Any], **__: object) -> None:
        if "loss" in logs:  # else of the whole training, after its end
            self.ended = time.process_time()


def measure(count: int, batch: int, *, is_watched: bool) -> tuple[float, list[float], float]:
    """(Seconds of the steps, their losses, seconds of them in the callback)."""
    folder = starter_folder()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded = LoadedModel(model, tokenizer, torch.device("cpu"), torch.float32, "bench")
    pairs = tokenize_pairs(tokenizer, WORKLOADS["persona"](count), 4096, 4096)
    watching, clock = Stopwatch(), FromFirstStep()
    with TemporaryDirectory() as spool:
        callbacks: list[TrainerCallback] = []
        if is_watched:
            callback = Callback(mode="offline", folder=Path(spool))
            for name in EVENTS:
                setattr(callback, name, watching.around(getattr(callback, name)))
            callbacks.append(callback)
        callbacks.append(clock)
        losses = baselines.train_with_trl(loaded, pairs, batch, 1e-6, False, callbacks)
    return clock.ended - clock.began, losses, watching.seconds


if __name__ == "__main__":
    print(*rows(*map(int, sys.argv[1:])), sep="\n")
