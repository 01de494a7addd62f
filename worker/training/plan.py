"""The steps of a training run: their phases, pairs and learning rates, as functions of the step."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from chesboard.configs import TrainConfig
from chesboard.objectives import at_progress
from worker.training.optim import learning_rate


class Plan:
    """A run's steps, counted from 1: those of a first phase by cross-entropy on both responses, if
    there is one, then those of the objective.

    Each phase begins anew: its learning rate warms up and decays, and the pairs come in the order
    of its first epoch, so that the two together are what two runs one after the other would be.
    Nothing depends on what happened before, so that a resumed run goes on with the same steps; but
    with `refresh_filter` on the pairs that are left in each epoch of the objective. Only those of
    epochs that have begun are known: `steps` and the learning rate are those of a run that drops no
    more pairs, and change where an epoch begins.
    """

    def __init__(
        self, config: TrainConfig, pairs: int, left: Sequence[frozenset[int]] = ()
    ) -> None:
        """left: with `refresh_filter`, the indices of the pairs that are left in each epoch that
        has begun."""
        self._config, self._pairs, self.left = config, pairs, tuple(left)
        self._pairs_a_step = config.batch_size * config.gradient_accumulation
        self._steps_an_epoch = math.ceil(pairs / self._pairs_a_step)
        self.first_steps = config.extend_sft_epochs * self._steps_an_epoch
        sizes = [len(indices) for indices in self.left]
        sizes += [sizes[-1] if sizes else pairs] * (config.epochs - len(sizes))
        self._ends = list(accumulate(math.ceil(size / self._pairs_a_step) for size in sizes))
        every = self._ends[-1]
        self._objective_steps = min(every, config.max_steps or every)
        self.steps = self.first_steps + self._objective_steps

    @property
    def next_filter(self) -> int | None:
        """The step after which the pairs of the next epoch are filtered; None: never again."""
        begun = len(self.left)
        if self._config.refresh_filter is None or begun == self._config.epochs:
            return None
        step = self.first_steps + (self._ends[begun - 1] if begun else 0)
        return step if step < self.steps else None

    def with_epoch(self, left: frozenset[int]) -> "Plan":
        """The plan once the next epoch begins, with these pairs."""
        return Plan(self._config, self._pairs, (*self.left, left))

    def is_first_phase(self, step: int) -> bool:
        return step <= self.first_steps

    def batch(self, step: int) -> Sequence[int]:
        """Indices of the step's pairs."""
        epoch, place = self._place(step)
        order: Sequence[int] = range(self._pairs)
        if self._config.shuffle:
            generator = np.random.default_rng([self._config.seed, epoch])
            order = generator.permutation(self._pairs).tolist()
        if self._config.refresh_filter is not None and not self.is_first_phase(step):
            order = [index for index in order if index in self.left[epoch]]
        start = place * self._pairs_a_step
        return order[start : start + self._pairs_a_step]

    def learning_rate(self, step: int) -> float:
        steps = self.first_steps if self.is_first_phase(step) else self._objective_steps
        return learning_rate(self._config, self._in_phase(step), steps)

    def objective(self, step: int) -> TrainConfig:
        """The objective at a step of its phase, with what changes from step to step."""
        progress = (self._in_phase(step) - 1) / max(1, self._objective_steps - 1)
        return at_progress(self._config, progress)

    def _place(self, step: int) -> tuple[int, int]:
        """Epoch of the step in its phase and step in that epoch, both counted from 0."""
        before = self._in_phase(step) - 1
        if self.is_first_phase(step):
            return divmod(before, self._steps_an_epoch)
        epoch = bisect_right(self._ends, before)
        return epoch, before - (self._ends[epoch - 1] if epoch else 0)

    def _in_phase(self, step: int) -> int:
        return step if self.is_first_phase(step) else step - self.first_steps
