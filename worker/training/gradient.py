"""The gradient of a training step, accumulated over as many forward passes as memory asks for."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from chesboard.calibration import Calibration, Observed, calibrated
from chesboard.configs import TrainConfig
from chesboard.forward.batching import TokenBudget
from chesboard.forward.states import PairForward, PairStates
from chesboard.model import LoadedModel
from chesboard.objectives import PairLogprobs, both_cross_entropy, losses
from chesboard.pairs import TokenizedPair
from chesboard.reporting import Control
from chesboard.sharding import gathered, is_dtensor
from worker.training.calibration import observe
from worker.training.sharing import (
    ALONE,
    Ranks,
    add_up_gradients,
    in_shared_batches,
    micro_batches,
)
from worker.training.statistics import StepStats
from worker.training.terms import PairTerms
from worker.training.weights import adapter_dropout


class StepGradient:
    """Leaves the gradients of steps in the parameters that are trained.

    The objective of a step is None in the first phase: cross-entropy on both responses.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        forward: PairForward,
        config: TrainConfig,
        budget: TokenBudget,
        control: Control,
        terms: PairTerms,
        trained: Iterable[Parameter],
        ranks: Ranks = ALONE,
    ) -> None:
        self._loaded, self._forward, self._config = loaded, forward, config
        self._budget, self._control, self._trained = budget, control, list(trained)
        self._ranks = ranks
        # FSDP2 takes the mean over the ranks where the step's loss is a sum over them.
        self._scale = ranks.count if any(map(is_dtensor, self._trained)) else 1
        self.terms = terms
        self.calibration: Calibration | None = None
        """Of the next step; None before the first one that is calibrated."""

    def clear(self) -> None:
        for parameter in self._trained:
            parameter.grad = None

    def accumulate(
        self, batch: Sequence[TokenizedPair], objective: TrainConfig | None
    ) -> StepStats:
        """Gradient accumulation: leave the gradient of the batch's mean loss in the parameters.

        The batch is split into micro-batches within the token budget. After out-of-memory the
        accumulated gradients are discarded and the whole step is repeated with half the budget.
        Several ranks each take a part of the batch; what they see is that of all.
        """
        micro: list[TokenizedPair] = []
        while True:
            seen = StepStats()
            try:
                with adapter_dropout(self._loaded.model):
                    for micro, has_weight in self._micro_batches(batch):
                        self._control.check()
                        self._backward(micro, objective, len(batch), seen if has_weight else None)
                return self._of_all_ranks(seen)
            except torch.OutOfMemoryError:
                pass  # recover outside the except block: its traceback keeps tensors alive
            except BaseException:
                self.clear()
                raise
            self.clear()
            self._budget.halve(micro)

    def _micro_batches(
        self, batch: Sequence[TokenizedPair]
    ) -> Iterator[tuple[list[TokenizedPair], bool]]:
        """The micro-batches of this rank's part, and whether each has weight."""
        return micro_batches(
            self._ranks,
            batch,
            self._forward.row_tokens,
            self._budget.tokens,
            self._config.batch_size,
        )

    def _of_all_ranks(self, seen: StepStats) -> StepStats:
        if self._ranks.is_alone:
            return seen
        add_up_gradients(self._trained)
        return StepStats.joined(gathered(seen))

    def _backward(
        self,
        micro: Sequence[TokenizedPair],
        objective: TrainConfig | None,
        pairs_in_step: int,
        seen: StepStats | None,
    ) -> None:
        """seen: what to add to; None: the pairs have no weight, and only keep step."""
        scale = 0 if seen is None else self._scale
        seen = StepStats() if seen is None else seen
        states = self._forward(micro)
        logprobs = self.terms.logprobs(micro, states)
        if objective is not None and self.calibration is not None:
            self._observe_pushes(micro, states, logprobs, objective, seen)
        loss_B = self._losses(micro, logprobs, objective)
        # Divided by the pairs of the step, not of the micro-batch: the gradients of micro-batches
        # of any sizes then add up to that of the mean loss over the step.
        loss = loss_B.sum() / pairs_in_step
        if not self._ranks.is_alone:
            loss = loss * scale
        loss.backward()  # type: ignore[no-untyped-call]
        seen.add(loss_B, logprobs)

    def _losses(
        self,
        micro: Sequence[TokenizedPair],
        logprobs: PairLogprobs,
        objective: TrainConfig | None,
    ) -> Tensor:
        if objective is None:
            return both_cross_entropy(logprobs, self._config)
        if self.calibration is not None:
            logprobs = calibrated(logprobs, self.calibration.factor)
        loss_B = losses(logprobs, objective)
        weights_B = self.terms.weights_B(micro)
        return loss_B if weights_B is None else loss_B * weights_B

    def calibrate(self, batch: Sequence[TokenizedPair], objective: TrainConfig) -> None:
        """With reward_calibration: by the objective's first batch, so that its first step is
        calibrated already."""
        if not self._config.reward_calibration or self.calibration is not None:
            return
        observed = Observed()

        @torch.no_grad()
        def measure(micro: list[TokenizedPair]) -> Observed:
            seen = StepStats()
            states = self._forward(micro)
            logprobs = self.terms.logprobs(micro, states)
            self._observe_pushes(micro, states, logprobs, objective, seen)
            return seen.observed

        in_shared_batches(
            self._ranks,
            batch,
            self._forward.row_tokens,
            self._budget,
            self._control,
            measure,
            observed.extend,
            self._config.batch_size,
        )
        self.calibration = observed.calibration()

    def follow(self, seen: StepStats) -> None:
        """Move the calibration on by what a step has observed."""
        if self.calibration is not None:
            self.calibration = self.calibration.then(seen.observed.calibration())

    def _observe_pushes(
        self,
        micro: Sequence[TokenizedPair],
        states: PairStates,
        logprobs: PairLogprobs,
        objective: TrainConfig,
        seen: StepStats,
    ) -> None:
        weights_B = self.terms.weights_B(micro)
        observe(self._loaded, micro, states, logprobs, objective, weights_B, seen.observed)
