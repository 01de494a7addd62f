"""The state of a training run between two steps, and its checkpoints."""

import math
from dataclasses import replace
from pathlib import Path

from torch.nn import Parameter

from chesboard.configs import TrainConfig
from chesboard.model import LoadedModel
from chesboard.probing.observer import ProbeObserver
from chesboard.probing.probes import ProbeState
from chesboard.reporting import Reporter
from chesboard.sharding import agreed
from worker.pulse import busy
from worker.training import checkpoints
from worker.training.checkpoints import CheckpointSchedule, Progress, RandomState
from worker.training.optim import make_optimizer
from worker.training.sharing import ALONE, Ranks


class TrainingState:
    """The parameters that are trained, their optimizer, and how far the run is.

    The random generators are those after the last step: what is measured between two steps may
    draw from them, and a resumed run does not measure it again.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        config: TrainConfig,
        reporter: Reporter,
        probes: ProbeObserver,
        folder: Path,
        ranks: Ranks = ALONE,
    ) -> None:
        self._device, self._config, self._reporter = loaded.device, config, reporter
        self._probes, self._folder, self._ranks = probes, folder, ranks
        self.trained: dict[str, Parameter] = {
            name: p for name, p in loaded.model.named_parameters() if p.requires_grad
        }
        self.optimizer = make_optimizer(self.trained.values(), config)
        self.at = Progress(step=0, tokens_seen=0, seconds=0.0, loss=math.nan, margin=math.nan)
        self._random = RandomState.capture(self._device)
        # Approximate size: each weight and up to two values of optimizer state.
        weights = sum(p.numel() * p.element_size() for p in self.trained.values())
        self._schedule = CheckpointSchedule(3 * weights)

    @property
    def has_checkpoint(self) -> bool:
        return checkpoints.exists(self._folder)

    def resume(self) -> ProbeState:
        """Go back to the checkpoint; answers with what the probes had kept.

        Raises:
            CheckpointMismatchError: it is of another configuration or model.
        """
        self.at, self._random, probes = checkpoints.read(
            self._folder,
            self.trained,
            self.optimizer,
            self._device,
            self._config.model_dump(mode="json"),
            self._ranks,
        )
        self._random.restore(self._device)
        return probes

    def begin_optimizer_anew(self) -> None:
        self.optimizer = make_optimizer(self.trained.values(), self._config)

    def step_done(self, at: Progress) -> None:
        self.at = at
        self._random = RandomState.capture(self._device)

    def add_seconds(self, seconds: float) -> None:
        self.at = replace(self.at, seconds=self.at.seconds + seconds)

    def checkpoint_if_due(self) -> None:
        every = self._config.checkpoint_every
        # By the first rank's clock: all ranks take part.
        if agreed(self._schedule.is_due()) if every is None else self.at.step % every == 0:
            self.checkpoint()

    def checkpoint(self) -> None:
        if self.at.step == 0:
            return  # nothing is lost by starting over
        with busy():
            self._write()
        self._reporter.checkpointed()

    def _write(self) -> None:
        # The store must not lag behind the checkpoint, or a resumed run would leave a gap in it.
        self._reporter.flush()
        with self._schedule.writing():
            checkpoints.write(
                self._folder,
                self.trained,
                self.optimizer,
                self._random,
                self.at,
                self._probes.state(self.at.step),
                self._config.model_dump(mode="json"),
                self._ranks,
            )
