"""How well a pre-flight, the forecast and the measures foresee training: `python -m
tests.benchmarks.preflight [COUNT] [FILE]`.

Each pair is trained alone for one step from the same weights, and what that did to log p(y+) is
compared with what was foreseen. Half as many pairs again are near-identical ones, made by editing
one word of a preferred response: among these are responses that fall. Then all pairs of the file
are trained on together, as a user would.
"""

import itertools
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from chesboard.configs import PreflightConfig, TrainConfig
from chesboard.forecast import ScoredPairs, first_push, preferred_shift
from chesboard.formats.pair_reader import PairReader
from chesboard.formats.reading import read_rows
from chesboard.formats.rows import PairRow
from chesboard.forward.select import select_forward
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel
from chesboard.objectives import losses
from chesboard.pairs import Pair, TokenizedPair
from chesboard.preflight.direction import at_reference, first_steps
from chesboard.preflight.gradients import (
    following,
    gradients_of,
    inner_products,
    response_gradient,
)
from chesboard.probing.ranks import spearman_of
from chesboard.records import STILL_NATS, FinalRecord, Record, ScoreRecord
from chesboard.scoring import score_pairs
from chesboard.tokenization import tokenize_pairs
from tests.benchmarks.case import Ledger
from tests.benchmarks.starter import starter_model
from tests.benchmarks.workloads import dialogues
from worker.memory import keep_freed_memory
from worker.training.loop import train
from worker.training.optim import make_optimizer

COUNT = 16
"""Pairs of the file in `make bench`, so that it takes minutes. The bar is set for 64 pairs."""
MOST_TOKENS = 512
NEAR_IDENTICAL = 100_000
"""Numbers of pairs from which on they are near-identical ones."""
LEAST_SPEARMAN = 0.95
"""What is asked of the pre-flight, of pairs trained alone."""
CONFIG = PreflightConfig(device="cpu", optimizer="rmsprop", learning_rate=1e-7)
TRAINING = TrainConfig(**CONFIG.model_dump(exclude={"selection"}), batch_size=8)
COLUMNS = (
    "foreseen by",
    "Spearman, pairs of the file",
    "Spearman, near-identical too",
    "signs right",
    "Spearman, trained together",
    "signs right, together",
)
MEASURES = ("head_shift", "ches", "ln_ches", "length_gap", "implicit_gap")
SIGNED = ("preflight", "forecast")
"""What says a sign. That of the head shift is the forecast's where the objective is dpo."""
ABOUT = f"""The change of log p(y+) after one step of {CONFIG.objective} on each pair alone
({CONFIG.optimizer}, {CONFIG.learning_rate:g}), against what was foreseen before it: the pre-flight
(first order, along the optimizer's own step; asked for is a rank correlation of {LEAST_SPEARMAN}),
the forecast from a score run (first order, gradient descent, through the output head) and measures
of that run. Half as many near-identical pairs as there are pairs of the file are among those that
signs are counted of. *Together*: after one epoch over all pairs of the file, {TRAINING.batch_size}
a step, which neither foresees: changes up to {STILL_NATS:g} nats count as none there."""


@dataclass(frozen=True)
class Foreseen:
    """One pair: the pre-flight's change and the measured one, in nats, and its scores."""

    preflight: float
    measured: float
    score: ScoreRecord

    @property
    def pair(self) -> int:
        return self.score.pair

    @property
    def is_near_identical(self) -> bool:
        return self.pair >= NEAR_IDENTICAL

    @property
    def forecast(self) -> float:
        needed = [one.name for one in fields(ScoredPairs) if one.default is MISSING]
        pair = ScoredPairs(*(getattr(self.score, name) for name in needed))
        return float(preferred_shift(first_push(CONFIG, pair), pair))


class Finals(Ledger):
    """Keeps the change of log p(y+) of each pair that a training run measured."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: dict[int, float] = {}

    def put(self, *records: Record) -> None:
        super().put(*records)
        for one in records:
            if isinstance(one, FinalRecord):
                self.changes[one.pair] = one.final_preferred - one.preferred


def near_identical(pairs: Sequence[Pair]) -> list[Pair]:
    """The preferred responses over themselves with one word in the middle edited."""
    chooser = random.Random(0)
    made = []
    for pair in pairs:
        words, others = pair.preferred.split(" "), pair.dispreferred.split(" ")
        edited = [*words]
        other = [word for word in others if word != words[len(words) // 2]] or ["not"]
        edited[len(words) // 2] = chooser.choice(other)
        made.append(replace(pair, dispreferred=" ".join(edited), pair=pair.pair + NEAR_IDENTICAL))
    return made


def foresee(loaded: LoadedModel, pairs: Sequence[TokenizedPair]) -> Iterator[Foreseen]:
    reporter = Ledger()
    score_pairs(loaded, pairs, CONFIG, reporter, reporter)
    scores = {record.pair: record for record in reporter.score_records}
    forward, _ = select_forward(loaded, pairs)
    kept = {name: weight.detach().clone() for name, weight in loaded.model.named_parameters()}
    for number, pair in enumerate(pairs):
        started = time.perf_counter()
        # The gradient of the loss serves both: the pre-flight and the optimizer's actual step.
        with following(loaded) as weights:
            states = forward([pair])
            both = states.preferred_logprobs_B(), states.dispreferred_logprobs_B()
            gradients = gradients_of(losses(at_reference(both, pair), CONFIG).sum(), weights)
        before = both[0].item()
        copies = {name: gradient.clone() for name, gradient in gradients.items()}
        direction = first_steps(CONFIG, weights, copies)
        own = response_gradient(loaded, forward, pair, pair.preferred_ids)
        change = float(inner_products([direction], [own]))
        measured = _after_step(loaded, forward, pair, gradients) - before
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(kept[name])
        print(
            f"{number + 1} of {len(pairs)}: foreseen {change:+.5f}, measured {measured:+.5f} "
            f"({time.perf_counter() - started:.0f} s)",
            file=sys.stderr,
            flush=True,
        )
        yield Foreseen(change, measured, scores[pair.pair])


def _after_step(
    loaded: LoadedModel, forward: PairForward, pair: TokenizedPair, gradients: dict[str, Tensor]
) -> float:
    """log p(y+) after one step of the optimizer that training uses."""
    weights = dict(loaded.model.named_parameters())
    for name, gradient in gradients.items():
        weights[name].grad = gradient
    optimizer = make_optimizer(weights.values(), TRAINING)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        return float(forward([pair]).preferred_logprobs_B())


def changes_together(loaded: LoadedModel, pairs: Sequence[TokenizedPair]) -> dict[int, float]:
    """pair → the change of log p(y+) after one epoch over all of them. Leaves the model trained."""
    reporter = Finals()
    with TemporaryDirectory() as folder:
        train(loaded, pairs, TRAINING, reporter, reporter, Path(folder), [])
    return reporter.changes


def rows(count: int = COUNT, path: Path | None = None) -> Iterator[tuple[str, ...]]:
    keep_freed_memory()  # as the worker does
    raw = dialogues(count) if path is None else pairs_of(path, count)
    loaded = starter_model(CONFIG)
    tokenized = tokenize_pairs(
        loaded.tokenizer, [*raw, *near_identical(raw[: count // 2])], MOST_TOKENS, MOST_TOKENS
    )
    pairs = [pair for pair in tokenized if not pair.has_same_tokens]
    found = list(foresee(loaded, pairs))
    of_file = [one for one in found if not one.is_near_identical]
    together = changes_together(loaded, [pair for pair in pairs if pair.pair < NEAR_IDENTICAL])
    alone = {one.pair: one.measured for one in found}
    for name in ("preflight", "forecast", *MEASURES):
        yield (
            name,
            _marked(name, _agreement(of_file, name, alone)),
            _marked(name, _agreement(found, name, alone)),
            _signs(found, name, alone, 0.0),
            _agreement(of_file, name, together),
            _signs(of_file, name, together, STILL_NATS),
        )


def pairs_of(path: Path, count: int) -> list[Pair]:
    """The first usable pairs of a file in any format that can be uploaded."""
    with path.open("rb") as file:
        read = PairReader().read(read_rows(file, path.name, sys.maxsize))
        rows = list(itertools.islice((row for row in read if isinstance(row, PairRow)), count))
    return [
        Pair(row.prompt, row.preferred, row.dispreferred, pair=number)
        for number, row in enumerate(rows)
    ]


def _value(one: Foreseen, name: str) -> float:
    value = getattr(one if name in SIGNED else one.score, name)
    assert isinstance(value, float)
    return value


def _agreement(found: Sequence[Foreseen], name: str, changes: Mapping[int, float]) -> str:
    rank, compared = spearman_of(
        [_value(one, name) for one in found], [changes[one.pair] for one in found]
    )
    return "–" if rank is None else f"{rank:+.3f} (n = {compared})"


def _marked(name: str, agreement: str) -> str:
    """With the bar where it is missed."""
    if name != "preflight" or agreement == "–" or float(agreement.split()[0]) >= LEAST_SPEARMAN:
        return agreement
    return f"{agreement}, {LEAST_SPEARMAN} missed"


def _signs(found: Sequence[Foreseen], name: str, changes: Mapping[int, float], still: float) -> str:
    if name not in SIGNED:
        return "–"
    right = sum((_value(one, name) < 0) == (changes[one.pair] < -still) for one in found)
    falling = sum(changes[one.pair] < -still for one in found)
    return f"{right} of {len(found)} ({falling} fall)"


if __name__ == "__main__":
    asked = sys.argv[1:]
    print(*rows(int(asked[0]) if asked else COUNT, Path(asked[1]) if asked[1:] else None), sep="\n")
