"""Preference training with measurement.

A step takes batch_size x gradient_accumulation pairs, in the order that the seed gives. Its loss
is the mean over these pairs, however they are cut into forward passes.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from chesboard.configs import LoraConfig, TrainConfig
from chesboard.forward.batching import TokenBudget, in_batches, token_batches
from chesboard.forward.select import refuse_too_long, select_forward
from chesboard.forward.states import PairForward, PairStates
from chesboard.model import LoadedModel
from chesboard.objectives import PairLogprobs, losses
from chesboard.pairs import TokenizedPair
from chesboard.probing.observer import ProbeObserver
from chesboard.records import MetricRecord, ReferenceRecord, displaced
from chesboard.reporting import Control, Reporter, RunInterruptedError
from chesboard.scoring import report_truncation
from worker.training import checkpoints
from worker.training.checkpoints import Progress, RandomState
from worker.training.displacement import measure_displacement
from worker.training.optim import clip_gradients, learning_rate, make_optimizer, set_learning_rate

Reference = dict[int, tuple[float, float]]
"""pair → (log p(y+), log p(y-)) under the reference model, in nats."""

MOST_NOT_FINITE = 3


class TrainingDivergedError(ValueError):
    """The loss was not a number for several steps in a row."""


def train(
    loaded: LoadedModel,
    pairs: Sequence[TokenizedPair],
    config: TrainConfig,
    reporter: Reporter,
    control: Control,
    folder: Path,
    probe_pairs: Sequence[TokenizedPair],
    reference: Mapping[int, tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """Train `loaded.model` in place and return a summary.

    Goes on from `folder`/checkpoint where there is one. Log-probabilities of the reference that
    are passed in are not computed again; the others are handed to the reporter. With adapters,
    `loaded.model` becomes the model with adapters.

    Raises:
        TrainingDivergedError: the loss was not finite for three steps in a row.
        RunInterruptedError: after writing a checkpoint; the run can go on from it.
        MemoryError: one pair alone does not fit into the GPU's memory.
        ValueError: no pairs, or one that is longer than the model can read.
    """
    if not pairs:
        raise ValueError("There are no pairs to train on: the selection leaves none.")
    refuse_too_long(loaded, [*pairs, *probe_pairs])
    torch.manual_seed(config.seed)
    _prepare_model(loaded, config.lora)
    reporter.phase("comparing forward passes")
    forward, reason = select_forward(loaded, [*pairs, *probe_pairs])
    if reason:
        reporter.message(reason)
    report_truncation(pairs, reporter)
    _tell_rounding(loaded, config, _steps(config, len(pairs)), reporter)
    budget = TokenBudget(config.batch_tokens, reporter.message)
    known = _complete_reference(loaded, forward, pairs, budget, reporter, control, reference or {})
    probes = ProbeObserver(loaded, forward, probe_pairs, config, reporter, control)
    run = _Run(loaded, forward, pairs, config, reporter, control, folder, probes, known, budget)
    return run.go()


def _prepare_model(loaded: LoadedModel, lora: LoraConfig | None) -> None:
    """float32 master weights; eval mode, so that the model's own dropout is off."""
    if lora is None:
        if any(parameter.dtype != torch.float32 for parameter in loaded.model.parameters()):
            loaded.model.float()
        loaded.model.requires_grad_(True)
    else:
        # Only adapters are trained, and peft keeps these in float32 itself.
        loaded.model = _add_adapters(loaded.model, lora)
    loaded.model.eval()


def _steps(config: TrainConfig, pairs: int) -> int:
    every = config.epochs * math.ceil(pairs / (config.batch_size * config.gradient_accumulation))
    return min(every, config.max_steps or every)


@torch.no_grad()
def _tell_rounding(
    loaded: LoadedModel, config: TrainConfig, steps: int, reporter: Reporter
) -> None:
    """Say where the whole run moves weights by less than their rounding in bfloat16.

    The float32 weights keep such changes, but a forward pass in bfloat16 sees only those that
    cross to the next number of 8 bits, so the curves are rougher than the training is.
    """
    if loaded.compute_dtype != torch.bfloat16 or config.lora is not None:
        return
    matrices = [p for p in loaded.model.parameters() if p.ndim >= 2]
    size = sum(p.abs().sum(dtype=torch.float64).item() for p in matrices)
    mean = size / sum(p.numel() for p in matrices)
    assert config.learning_rate is not None
    moved, rounding = config.learning_rate * steps, mean * torch.finfo(torch.bfloat16).eps / 2
    if config.optimizer != "sgd" and moved < rounding:
        reporter.message(
            f"{steps} steps at a learning rate of {config.learning_rate:g} move a weight by about "
            f"{moved:.0e} at most, less than it is rounded by in bfloat16 ({rounding:.0e}). The "
            "weights are kept in float32 and lose nothing, but what is measured is rougher than "
            "the training: choose dtype float32 for smooth curves."
        )


def _add_adapters(model: Any, lora: LoraConfig) -> Any:
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    return get_peft_model(
        model,
        PeftLoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules,
            task_type="CAUSAL_LM",
        ),
    )


def _complete_reference(
    loaded: LoadedModel,
    forward: PairForward,
    pairs: Sequence[TokenizedPair],
    budget: TokenBudget,
    reporter: Reporter,
    control: Control,
    known: Mapping[int, tuple[float, float]],
) -> Reference:
    """The reference's log-probabilities of all pairs, computed where they are not known."""
    reference = {pair: (both[0], both[1]) for pair, both in known.items()}

    @torch.no_grad()
    def compute(batch: list[TokenizedPair]) -> None:
        states = forward(batch)
        preferred = states.preferred_logprobs_B().tolist()
        dispreferred = states.dispreferred_logprobs_B().tolist()
        rows = [
            ReferenceRecord(pair.pair, preferred[b], dispreferred[b])
            for b, pair in enumerate(batch)
            if pair.pair not in known
        ]
        reporter.put(*rows)
        reference.update({row.pair: (row.preferred, row.dispreferred) for row in rows})
        reporter.progress(len(reference), len(pairs), "pairs")

    reporter.phase("reference pass")
    with _reference_model(loaded):
        in_batches(pairs, forward.row_tokens, budget, control, compute, done=known)
    return reference


def _reference_model(loaded: LoadedModel) -> AbstractContextManager[Any]:
    """Adapters off, where there are some. A model trained whole is its own reference at first."""
    if hasattr(loaded.model, "peft_config"):
        off: AbstractContextManager[Any] = loaded.model.disable_adapter()
        return off
    return nullcontext()


@contextmanager
def _adapter_dropout(model: Any) -> Iterator[None]:
    """Adapters' dropout on, for a training step; the model's own stays off."""
    dropouts = [module for name, module in model.named_modules() if "lora_dropout" in name]
    for module in dropouts:
        module.train()
    try:
        yield
    finally:
        for module in dropouts:
            module.eval()


@dataclass(slots=True)
class StepStats:
    """What a step saw of its pairs, before its update: one value a pair, in nats."""

    losses: list[float] = field(default_factory=list)
    preferred: list[float] = field(default_factory=list)
    dispreferred: list[float] = field(default_factory=list)
    preferred_changes: list[float] = field(default_factory=list)
    dispreferred_changes: list[float] = field(default_factory=list)

    def add(self, loss_B: Tensor, logprobs: PairLogprobs) -> None:
        for values, tensor in (
            (self.losses, loss_B),
            (self.preferred, logprobs.preferred_B),
            (self.dispreferred, logprobs.dispreferred_B),
            (self.preferred_changes, logprobs.preferred_change_B),
            (self.dispreferred_changes, logprobs.dispreferred_change_B),
        ):
            values.extend(tensor.detach().tolist())

    @property
    def margins(self) -> list[float]:
        both = zip(self.preferred_changes, self.dispreferred_changes, strict=True)
        return [preferred - dispreferred for preferred, dispreferred in both]

    @property
    def displaced(self) -> list[bool]:
        both = zip(self.preferred_changes, self.dispreferred_changes, strict=True)
        return [displaced(*changes) for changes in both]


def _mean(values: Sequence[float]) -> float:
    """The mean, independent of the values' order. NaN and infinity go through."""
    total = sum(values)
    return math.fsum(values) / len(values) if math.isfinite(total) else total / len(values)


class _Run:
    """One run of training, from its first step or its checkpoint to its last step."""

    def __init__(
        self,
        loaded: LoadedModel,
        forward: PairForward,
        pairs: Sequence[TokenizedPair],
        config: TrainConfig,
        reporter: Reporter,
        control: Control,
        folder: Path,
        probes: ProbeObserver,
        reference: Reference,
        budget: TokenBudget,
    ) -> None:
        self._loaded, self._forward, self._pairs = loaded, forward, pairs
        self._config, self._reporter, self._control = config, reporter, control
        self._folder, self._probes, self._reference = folder, probes, reference
        self._budget = budget
        self._trained: dict[str, Parameter] = {
            name: p for name, p in loaded.model.named_parameters() if p.requires_grad
        }
        self._optimizer = make_optimizer(self._trained.values(), config)
        self._pairs_a_step = config.batch_size * config.gradient_accumulation
        self._steps_an_epoch = math.ceil(len(pairs) / self._pairs_a_step)
        self._steps = _steps(config, len(pairs))
        self._at = Progress(step=0, tokens_seen=0, seconds=0.0, loss=math.nan, margin=math.nan)
        self._random = RandomState.capture(loaded.device)
        self._not_finite = 0
        self._pace = checkpoints.CheckpointSchedule(self._state_bytes())

    def _state_bytes(self) -> int:
        """About what a checkpoint takes: the weights, and at most two numbers each beside them."""
        return 3 * sum(p.numel() * p.element_size() for p in self._trained.values())

    def go(self) -> dict[str, Any]:
        try:
            self._begin()
            while self._at.step < self._steps:
                self._step()
                self._observe()
                self._checkpoint_if_due()
            displacement = self._measure_displacement()
        except RunInterruptedError:
            self._checkpoint()
            raise
        return {**self._summarize(), "displacement": displacement}

    def _begin(self) -> None:
        if not checkpoints.exists(self._folder):
            self._reporter.phase("initial probes")
            self._probes.begin()
            self._reporter.phase("training")
            self._reporter.progress(0, self._steps, "steps")
            return
        self._at, self._random, probes = checkpoints.read(
            self._folder,
            self._trained,
            self._optimizer,
            self._loaded.device,
            self._config.model_dump(mode="json"),
        )
        self._random.restore(self._loaded.device)
        self._reporter.phase("training")
        self._probes.resume(probes)
        self._reporter.progress(self._at.step, self._steps, "steps")
        # The interruption may have come between the step and its look at the probes.
        self._observe()

    def _step(self) -> None:
        started = time.perf_counter()
        step = self._at.step + 1
        batch = self._batch(step)
        rate = learning_rate(self._config, step, self._steps)
        seen = self._accumulate(batch)
        norm = clip_gradients(self._trained.values(), self._config.max_grad_norm).item()
        loss = _mean(seen.losses)
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite:
            set_learning_rate(self._optimizer, rate)
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - started
        tokens = sum(pair.tokens for pair in batch)
        self._at = Progress(
            step=step,
            tokens_seen=self._at.tokens_seen + tokens,
            seconds=self._at.seconds + seconds,
            loss=loss,
            margin=_mean(seen.margins),
        )
        self._random = RandomState.capture(self._loaded.device)
        self._reporter.put(self._metric(seen, norm, rate, tokens / seconds))
        self._reporter.progress(step, self._steps, "steps")
        self._watch_for_divergence(finite, step)

    def _batch(self, step: int) -> list[TokenizedPair]:
        """The pairs of a step, which counts from 1: a function of the seed alone."""
        epoch, place = divmod(step - 1, self._steps_an_epoch)
        order: Sequence[int] = range(len(self._pairs))
        if self._config.shuffle:
            generator = np.random.default_rng([self._config.seed, epoch])
            order = generator.permutation(len(self._pairs)).tolist()
        start = place * self._pairs_a_step
        return [self._pairs[i] for i in order[start : start + self._pairs_a_step]]

    def _accumulate(self, batch: Sequence[TokenizedPair]) -> StepStats:
        """Leave the gradient of the batch's mean loss in the parameters."""
        micro: list[TokenizedPair] = []
        while True:
            seen = StepStats()
            try:
                with _adapter_dropout(self._loaded.model):
                    for micro in token_batches(
                        batch,
                        self._forward.row_tokens,
                        self._budget.tokens,
                        self._config.batch_size,
                    ):
                        self._control.check()
                        self._backward(micro, len(batch), seen)
                return seen
            except torch.OutOfMemoryError:
                pass  # leave the except block first: its traceback keeps tensors alive
            except BaseException:
                self._optimizer.zero_grad(set_to_none=True)
                raise
            self._optimizer.zero_grad(set_to_none=True)
            self._budget.halve(micro)

    def _backward(
        self, micro: Sequence[TokenizedPair], pairs_in_step: int, seen: StepStats
    ) -> None:
        states = self._forward(micro)
        logprobs = self._logprobs(micro, states)
        loss_B = losses(logprobs, self._config)
        (loss_B.sum() / pairs_in_step).backward()  # type: ignore[no-untyped-call]
        seen.add(loss_B, logprobs)

    def _logprobs(self, micro: Sequence[TokenizedPair], states: PairStates) -> PairLogprobs:
        def vector(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=self._loaded.device)

        return PairLogprobs(
            preferred_B=states.preferred_logprobs_B(),
            dispreferred_B=states.dispreferred_logprobs_B(),
            reference_preferred_B=vector([self._reference[p.pair][0] for p in micro]),
            reference_dispreferred_B=vector([self._reference[p.pair][1] for p in micro]),
            preferred_tokens_B=vector([len(p.preferred_ids) for p in micro]),
            dispreferred_tokens_B=vector([len(p.dispreferred_ids) for p in micro]),
        )

    def _metric(
        self, seen: StepStats, norm: float, rate: float, tokens_per_second: float
    ) -> MetricRecord:
        return MetricRecord(
            step=self._at.step,
            loss=self._at.loss,
            margin=self._at.margin,
            preferred_logprob=_mean(seen.preferred),
            dispreferred_logprob=_mean(seen.dispreferred),
            preferred_change=_mean(seen.preferred_changes),
            dispreferred_change=_mean(seen.dispreferred_changes),
            displaced_fraction=_mean(seen.displaced),
            accuracy=_mean([margin > 0 for margin in seen.margins]),
            grad_norm=norm,
            learning_rate=rate,
            tokens_per_second=tokens_per_second,
            tokens_seen=self._at.tokens_seen,
        )

    def _watch_for_divergence(self, finite: bool, step: int) -> None:
        self._not_finite = 0 if finite else self._not_finite + 1
        if self._not_finite == 1:
            self._reporter.message(
                f"Step {step}: the loss or its gradient is not finite; the step changed nothing."
            )
        if self._not_finite >= MOST_NOT_FINITE:
            raise TrainingDivergedError(
                f"The loss or its gradient was not finite for {MOST_NOT_FINITE} steps in a row, "
                f"the last being step {step}. Lower the learning rate, set max_grad_norm, or "
                "compute in float32."
            )

    def _observe(self) -> None:
        step, last = self._at.step, self._at.step == self._steps
        started = time.perf_counter()
        if last or step % self._config.probe_every == 0:
            self._probes.observe(step)
        self._probes.answer_if_due(step, last)
        seconds = self._at.seconds + time.perf_counter() - started
        self._at = replace(self._at, seconds=seconds)

    def _measure_displacement(self) -> dict[str, Any] | None:
        if not self._config.measure_displacement:
            return None
        self._reporter.phase("measuring displacement")
        found = measure_displacement(
            self._forward, self._pairs, self._reference, self._budget, self._reporter, self._control
        )
        self._reporter.phase("training")
        self._reporter.progress(self._steps, self._steps, "steps")
        return found

    def _checkpoint_if_due(self) -> None:
        every = self._config.checkpoint_every
        due = self._pace.is_due() if every is None else self._at.step % every == 0
        if due and self._at.step < self._steps:
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self._at.step == 0:
            return  # nothing is lost by starting again
        # The store must not lag behind the checkpoint, or a resumed run would leave a gap.
        self._reporter.flush()
        with self._pace.writing():
            checkpoints.write(
                self._folder,
                self._trained,
                self._optimizer,
                self._random,
                self._at,
                self._probes.state(self._at.step),
                self._config.model_dump(mode="json"),
            )
        self._reporter.checkpointed()

    def _summarize(self) -> dict[str, Any]:
        probes = self._probes.summarize()
        summary: dict[str, Any] = {
            "steps": self._at.step,
            "pairs": len(self._pairs),
            "parameters_trained": sum(p.numel() for p in self._trained.values()),
            "forward": self._forward.kind,
            "seconds": self._at.seconds,
            "tokens_seen": self._at.tokens_seen,
            "tokens_per_second": self._at.tokens_seen / self._at.seconds,
            "final_loss": self._at.loss,
            "final_margin": self._at.margin,
            "cut_tokens": sum(pair.cut_tokens for pair in self._pairs),
            "retokenised_pairs": sum(pair.retokenized for pair in self._pairs),
            "probes": probes,
            "prompts": self._probes.summarize_prompts(),
        }
        summary.update(_summarize_probes(probes))
        return summary


def _summarize_probes(probes: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the probes; None where there are none."""
    names = ("preferred_change", "dispreferred_change", "moved_mass")
    if not probes:
        return dict.fromkeys([*names, "displaced_fraction"])
    is_displaced = [
        displaced(probe["preferred_change"], probe["dispreferred_change"]) for probe in probes
    ]
    return {
        **{name: _mean([probe[name] for probe in probes]) for name in names},
        "displaced_fraction": _mean(is_displaced),
    }
