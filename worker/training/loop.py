"""The training loop: optimizer steps over preference pairs, measured as they happen.

A step is over batch_size x gradient_accumulation pairs, in the order that the seed gives. Its
loss is the mean over these pairs, however they are split into forward passes. `Plan` says which
steps there are.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from chesboard.calibration import Calibration
from chesboard.configs import TrainConfig
from chesboard.filtering import PairFilter
from chesboard.forward.batching import TokenBudget
from chesboard.forward.sharded import ShardedForward
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.probing.observer import ProbeObserver
from chesboard.probing.summary import mean
from chesboard.reporting import Control, Reporter, RunInterruptedError
from chesboard.scoring import report_truncation
from worker.training.calibration import require_head
from worker.training.checkpoints import CheckpointMismatchError, Progress
from worker.training.displacement import measure_displacement
from worker.training.divergence import DivergenceCheck
from worker.training.filtering import begin_epoch, resume_epochs
from worker.training.gradient import StepGradient
from worker.training.optim import clip_gradients, set_learning_rate
from worker.training.plan import Plan
from worker.training.reference import RunReference
from worker.training.sharing import ALONE, Ranks
from worker.training.state import TrainingState
from worker.training.statistics import step_metric
from worker.training.summary import summarize
from worker.training.terms import NO_INPUTS, PairInputs, PairTerms, needs_tails
from worker.training.weights import prepare_model, report_rounding


def train(
    loaded: LoadedModel,
    pairs: Sequence[TokenizedPair],
    config: TrainConfig,
    reporter: Reporter,
    control: Control,
    folder: Path,
    probe_pairs: Sequence[TokenizedPair],
    reference: Mapping[int, tuple[Any, ...]] | None = None,
    inputs: PairInputs = NO_INPUTS,
    pair_filter: PairFilter | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Train `loaded.model` in place and return a summary.

    Resumes from `folder`/checkpoint if there is one. Log-probabilities of the reference that are
    passed in are not computed again; the others are handed to the reporter. With LoRA,
    `loaded.model` becomes the model with adapters. pair_filter: what `refresh_filter` needs. ranks:
    the processes that train the model together; each calls this with the same arguments, but for
    the reporter, and a model that FSDP2 shards over them.

    Raises:
        TrainingDivergedError: the loss was not finite for three steps in a row.
        RunInterruptedError: after writing a checkpoint to resume from.
        MemoryError: one pair alone does not fit into GPU memory.
        ValueError: no pairs, one that has more tokens than the model has positions, or a model
            without the output head that reward_calibration needs, or the layers that
            gradient_checkpointing does.
    """
    if not pairs:
        raise ValueError("There are no pairs to train on: the selection leaves none.")
    torch.manual_seed(config.seed)
    recomputes = config.gradient_checkpointing
    prepare_model(loaded, config.lora, gradient_checkpointing=recomputes)
    if not ranks.is_first:
        torch.manual_seed(config.seed + ranks.rank)  # another dropout for other pairs
    forward = ranks.ready_forward(loaded, [*pairs, *probe_pairs], reporter, not recomputes)
    of_ranks = forward if ranks.is_alone else ShardedForward(loaded.model, forward)
    report_truncation(pairs, reporter)
    if config.reward_calibration:
        require_head(loaded)
    plan = Plan(config, len(pairs))
    report_rounding(loaded, config, plan.steps, reporter)
    budget = TokenBudget(config.batch_tokens, reporter.message, is_fixed=not ranks.is_alone)
    base = RunReference(
        loaded,
        of_ranks,
        pairs,
        budget,
        reporter,
        control,
        reference or {},
        tails=needs_tails(config),
        ranks=ranks,
    )
    if not plan.first_steps:  # else the reference is the model at the end of the first phase
        base.complete()
    probes = ProbeObserver(
        loaded, forward, probe_pairs, config, reporter, control, is_fixed=not ranks.is_alone
    )
    training = _Training(
        loaded,
        of_ranks,
        pairs,
        config,
        reporter,
        control,
        folder,
        probes,
        base,
        budget,
        inputs,
        pair_filter,
        ranks,
    )
    return training.execute()


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
        reference: RunReference,
        budget: TokenBudget,
        inputs: PairInputs,
        pair_filter: PairFilter | None,
        ranks: Ranks,
    ) -> None:
        self._loaded, self._forward, self._pairs = loaded, forward, pairs
        self._config, self._reporter, self._control = config, reporter, control
        self._probes, self._reference, self._budget = probes, reference, budget
        self._inputs, self._pair_filter, self._ranks = inputs, pair_filter, ranks
        self._plan = Plan(config, len(pairs))
        self._has_objective = False
        self._state = TrainingState(loaded, config, reporter, probes, folder, ranks)
        terms = PairTerms(config, None, inputs, loaded.device)
        trained = self._state.trained.values()
        self._gradient = StepGradient(
            loaded, forward, config, budget, control, terms, trained, ranks
        )
        self._divergence = DivergenceCheck(reporter)

    @property
    def _at(self) -> Progress:
        return self._state.at

    def execute(self) -> dict[str, Any]:
        try:
            self._begin()
            self._filter_if_due()
            while self._at.step < self._plan.steps:
                self._step()
                self._observe()
                if self._at.step < self._plan.steps:
                    self._state.checkpoint_if_due()
                self._filter_if_due()
            displacement = self._measure_displacement()
        except RunInterruptedError:
            self._state.checkpoint()
            raise
        return {
            **summarize(self._at, self._pairs, self._plan, self._probes),
            "parameters_trained": sum(p.numel() for p in self._state.trained.values()),
            "forward": self._forward.kind,
            "displacement": displacement,
        }

    def _begin(self) -> None:
        if not self._state.has_checkpoint:
            self._reporter.phase("initial probes")
            self._ranks.look(self._loaded, self._probes.begin)
            self._report_phase()
            return
        probes = self._state.resume()
        if self._at.calibration is not None:
            self._gradient.calibration = Calibration(*self._at.calibration)
        if self._pair_filter is not None:
            self._plan = resume_epochs(self._plan, self._at.step, self._pairs, self._pair_filter)
        self._report_phase()
        self._probes.resume(probes)
        self._reporter.progress(self._at.step, self._plan.steps, "steps")
        # The interruption may have come between the step and the observation of its probes.
        self._observe()

    def _report_phase(self) -> None:
        first = self._plan.is_first_phase(self._at.step + 1)
        self._reporter.phase("fine-tuning on both responses" if first else "training")
        self._reporter.progress(self._at.step, self._plan.steps, "steps")

    def _begin_objective(self) -> None:
        """Complete the reference, once, before the objective's first step or that of a resumed run.

        After a first phase the reference is the model as it stands, and the optimizer begins anew.
        """
        if self._has_objective:
            return
        done, first_steps = self._at.step, self._plan.first_steps
        if first_steps and done == first_steps:
            self._state.checkpoint()  # the stored reference is of exactly this model
            self._state.begin_optimizer_anew()
            self._reporter.message(
                f"Steps 1 to {first_steps} are the first phase: cross-entropy on both responses. "
                f"The reference of {self._config.objective} is the model at step {first_steps}; "
                "probes and ledgers compare with step 0, before both phases."
            )
        if not self._reference.is_complete:
            if done != first_steps:
                raise CheckpointMismatchError(
                    "The reference that this run has trained against is not stored any more. Start "
                    "a new run."
                )
            self._reference.complete(is_trained=True)
            self._report_phase()
        self._gradient.terms = PairTerms(
            self._config, self._reference.logprobs, self._inputs, self._loaded.device
        )
        self._has_objective = True

    def _filter_if_due(self) -> None:
        """Decide which pairs the next epoch has, where one begins."""
        if self._plan.next_filter != self._at.step:
            return
        self._begin_objective()  # the reference is of all pairs
        assert self._pair_filter is not None
        self._plan = begin_epoch(self._plan, self._pairs, self._pair_filter)
        self._report_phase()
        if not self._plan.left[-1]:
            self._reporter.message(
                f"Before epoch {len(self._plan.left)} the filter left no pair: the model's answer "
                "to every prompt that was left got at least the reward of the preferred response. "
                f"Training ended at step {self._at.step}."
            )
            if self._at.step:
                self._observe()  # it was not known to be the last step

    def _step(self) -> None:
        step = self._at.step + 1
        is_first_phase = self._plan.is_first_phase(step)
        if not is_first_phase:
            self._begin_objective()
        started = time.perf_counter()
        batch = [self._pairs[index] for index in self._plan.batch(step)]
        rate = self._plan.learning_rate(step)
        objective = None if is_first_phase else self._plan.objective(step)
        if objective is not None:
            self._gradient.calibrate(batch, objective)
        seen = self._gradient.accumulate(batch, objective)
        norm = clip_gradients(self._state.trained.values(), self._config.max_grad_norm).item()
        loss = mean(seen.losses)
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite:  # else the update is skipped, or every weight would become NaN
            set_learning_rate(self._state.optimizer, rate)
            self._state.optimizer.step()
            self._gradient.follow(seen)
        self._gradient.clear()
        seconds = time.perf_counter() - started
        tokens = sum(pair.tokens for pair in batch)
        calibration = self._gradient.calibration
        self._state.step_done(
            Progress(
                step=step,
                tokens_seen=self._at.tokens_seen + tokens,
                seconds=self._at.seconds + seconds,
                loss=loss,
                margin=mean(seen.margins),
                calibration=list(astuple(calibration)) if calibration else None,
            )
        )
        self._reporter.put(
            step_metric(seen, self._at, norm, rate, tokens / seconds, is_first_phase)
        )
        self._reporter.progress(step, self._plan.steps, "steps")
        self._divergence.check(step, finite)

    def _observe(self) -> None:
        step, last = self._at.step, self._at.step == self._plan.steps
        observes = last or step % self._config.probe_every == 0
        started = time.perf_counter()

        def look() -> None:
            if observes:
                self._probes.observe(step)
            self._probes.answer_if_due(step, last)

        if observes or self._probes.answers_at(step, last):
            self._ranks.look(self._loaded, look)
        self._state.add_seconds(time.perf_counter() - started)

    def _measure_displacement(self) -> dict[str, Any] | None:
        if not self._config.measure_displacement:
            return None
        self._begin_objective()  # of a run that was resumed after its last step
        self._reporter.phase("measuring displacement")
        found = measure_displacement(
            self._forward,
            self._pairs,
            self._reference.logprobs,
            self._budget,
            self._reporter,
            self._control,
            self._ranks,
        )
        self._reporter.phase("training")
        self._reporter.progress(self._plan.steps, self._plan.steps, "steps")
        return found
