"""The training loop: optimizer steps over preference pairs, measured as they happen.

A step is over batch_size x gradient_accumulation pairs, in the order that the seed gives. Its
loss is the mean over these pairs, however they are split into forward passes.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from chesboard.configs import TrainConfig
from chesboard.forward.batching import TokenBudget, token_batches
from chesboard.forward.select import refuse_too_long, refuse_unknown_tokens, select_forward
from chesboard.forward.states import PairForward, PairStates
from chesboard.model import LoadedModel
from chesboard.objectives import PairLogprobs, losses
from chesboard.pairs import TokenizedPair
from chesboard.probing.observer import ProbeObserver
from chesboard.records import MetricRecord
from chesboard.reporting import Control, Reporter, RunInterruptedError
from chesboard.scoring import report_truncation
from worker.training import checkpoints
from worker.training.checkpoints import Progress, RandomState
from worker.training.displacement import measure_displacement
from worker.training.optim import clip_gradients, learning_rate, make_optimizer, set_learning_rate
from worker.training.reference import Reference, complete_reference
from worker.training.statistics import StepStats, mean, summarize_probes
from worker.training.weights import adapter_dropout, prepare_model, report_rounding

MOST_NOT_FINITE = 3
"""Consecutive steps with a loss or gradient norm that is not finite, after which a run fails."""


class TrainingDivergedError(ValueError):
    """The loss or its gradient was not finite for MOST_NOT_FINITE steps in a row."""


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

    Resumes from `folder`/checkpoint if there is one. Log-probabilities of the reference that are
    passed in are not computed again; the others are handed to the reporter. With LoRA,
    `loaded.model` becomes the model with adapters.

    Raises:
        TrainingDivergedError: the loss was not finite for three steps in a row.
        RunInterruptedError: after writing a checkpoint to resume from.
        MemoryError: one pair alone does not fit into GPU memory.
        ValueError: no pairs, or one that has more tokens than the model has positions.
    """
    if not pairs:
        raise ValueError("There are no pairs to train on: the selection leaves none.")
    refuse_unknown_tokens(loaded, [*pairs, *probe_pairs])
    refuse_too_long(loaded, [*pairs, *probe_pairs])
    torch.manual_seed(config.seed)
    prepare_model(loaded, config.lora)
    reporter.phase("comparing forward passes")
    forward, reason = select_forward(loaded, [*pairs, *probe_pairs])
    if reason:
        reporter.message(reason)
    report_truncation(pairs, reporter)
    report_rounding(loaded, config, _total_steps(config, len(pairs)), reporter)
    budget = TokenBudget(config.batch_tokens, reporter.message)
    known = complete_reference(loaded, forward, pairs, budget, reporter, control, reference or {})
    probes = ProbeObserver(loaded, forward, probe_pairs, config, reporter, control)
    training = _Training(
        loaded, forward, pairs, config, reporter, control, folder, probes, known, budget
    )
    return training.execute()


def _total_steps(config: TrainConfig, pairs: int) -> int:
    every = config.epochs * math.ceil(pairs / (config.batch_size * config.gradient_accumulation))
    return min(every, config.max_steps or every)


class _Training:
    """State of one run's training, from its first step or its checkpoint to its last step."""

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
        self._steps = _total_steps(config, len(pairs))
        self._at = Progress(step=0, tokens_seen=0, seconds=0.0, loss=math.nan, margin=math.nan)
        self._random = RandomState.capture(loaded.device)
        self._not_finite = 0
        self._schedule = checkpoints.CheckpointSchedule(self._state_bytes())

    def _state_bytes(self) -> int:
        """Approximate size of a checkpoint: each weight and up to two values of optimizer state."""
        return 3 * sum(p.numel() * p.element_size() for p in self._trained.values())

    def execute(self) -> dict[str, Any]:
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
        # The interruption may have come between the step and the observation of its probes.
        self._observe()

    def _step(self) -> None:
        started = time.perf_counter()
        step = self._at.step + 1
        batch = self._batch(step)
        rate = learning_rate(self._config, step, self._steps)
        seen = self._accumulate(batch)
        norm = clip_gradients(self._trained.values(), self._config.max_grad_norm).item()
        loss = mean(seen.losses)
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite:  # else the update is skipped, or every weight would become NaN
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
            margin=mean(seen.margins),
        )
        self._random = RandomState.capture(self._loaded.device)
        self._reporter.put(self._metric(seen, norm, rate, tokens / seconds))
        self._reporter.progress(step, self._steps, "steps")
        self._check_divergence(finite, step)

    def _batch(self, step: int) -> list[TokenizedPair]:
        """The pairs of a step (counted from 1): a function of the seed alone, so a resumed run
        sees the same ones."""
        epoch, place = divmod(step - 1, self._steps_an_epoch)
        order: Sequence[int] = range(len(self._pairs))
        if self._config.shuffle:
            generator = np.random.default_rng([self._config.seed, epoch])
            order = generator.permutation(len(self._pairs)).tolist()
        start = place * self._pairs_a_step
        return [self._pairs[i] for i in order[start : start + self._pairs_a_step]]

    def _accumulate(self, batch: Sequence[TokenizedPair]) -> StepStats:
        """Gradient accumulation: leave the gradient of the batch's mean loss in the parameters.

        The batch is split into micro-batches within the token budget. After out-of-memory the
        accumulated gradients are discarded and the whole step is repeated with half the budget.
        """
        micro: list[TokenizedPair] = []
        while True:
            seen = StepStats()
            try:
                with adapter_dropout(self._loaded.model):
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
                pass  # recover outside the except block: its traceback keeps tensors alive
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
        # Divided by the pairs of the step, not of the micro-batch: the gradients of micro-batches
        # of any sizes then add up to that of the mean loss over the step.
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
            preferred_logprob=mean(seen.preferred),
            dispreferred_logprob=mean(seen.dispreferred),
            preferred_change=mean(seen.preferred_changes),
            dispreferred_change=mean(seen.dispreferred_changes),
            displaced_fraction=mean(seen.displaced),
            accuracy=mean([margin > 0 for margin in seen.margins]),
            grad_norm=norm,
            learning_rate=rate,
            tokens_per_second=tokens_per_second,
            tokens_seen=self._at.tokens_seen,
        )

    def _check_divergence(self, finite: bool, step: int) -> None:
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
        due = self._schedule.is_due() if every is None else self._at.step % every == 0
        if due and self._at.step < self._steps:
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self._at.step == 0:
            return  # nothing is lost by starting over
        # The store must not lag behind the checkpoint, or a resumed run would leave a gap in it.
        self._reporter.flush()
        with self._schedule.writing():
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
        summary.update(summarize_probes(probes))
        return summary
