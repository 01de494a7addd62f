"""Looks at probes in somebody else's training: the library's own measuring, on the trainer's model.

Every look is within `undisturbed`, and its records are handed over only after it, so that nothing
that goes wrong with them can keep this process from a collective that others wait for.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from chesboard.client.choosing import readable
from chesboard.client.guard import undisturbed
from chesboard.configs import TrainConfig
from chesboard.forward.batching import TokenBudget
from chesboard.forward.ready import ready_forward
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.probing.observer import ProbeObserver
from chesboard.probing.probes import ProbeState
from chesboard.probing.summary import summarize_probes
from chesboard.records import Record
from chesboard.sharding import sharding_of, within, wrapper_around


class UnwatchableModelError(Exception):
    """The trainer's model cannot be looked at; the message says why and what to do."""


class Looks:
    """The probes of one training. `begin` or `resume` first; each call gives the new records."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        pairs: Sequence[TokenizedPair],
        config: TrainConfig,
        compute_dtype: torch.dtype | None,
        report: Callable[[str], None],
    ) -> None:
        """compute_dtype: what the trainer's forward passes compute in; None: as the weights.

        Raises:
            UnwatchableModelError: its weights cannot be read.
        """
        first = next(model.parameters())
        self._sharding = sharding_of(model)
        if self._sharding == "fsdp1":
            wrapper = wrapper_around(model)
            if wrapper is None:
                raise UnwatchableModelError(
                    "FSDP version 1 wraps parts of the model alone, so that no probe can be looked "
                    "at. Wrap all of it, or shard by fully_shard (fsdp_version: 2); what the "
                    "trainer logs is recorded all the same."
                )
            self._model, model = wrapper, wrapper.module
        else:
            self._model = model
        dtype = compute_dtype or first.dtype
        self._loaded = LoadedModel(model, tokenizer, first.device, dtype, type(model).__name__)
        if self.is_collective:
            # One pair at a time: the least memory, so that no process runs out of it alone, halves
            # its batches, and does not come to the collectives that the others are at.
            config = config.model_copy(update={"batch_tokens": TokenBudget.SMALLEST})
        self._config = config
        self._reporter = _Keeping(report)
        self.pairs: list[TokenizedPair] = []
        if self._sharding == "fsdp1":  # which has the shape of a weight only where it is gathered
            self._read(lambda: self.pairs.extend(readable(self._loaded, pairs, report)))
        else:
            self.pairs = readable(self._loaded, pairs, report)
        self._observer: ProbeObserver | None = None
        self._forward: PairForward | None = None
        self.observed: int | None = None
        """The step of the last look."""

    @property
    def is_collective(self) -> bool:
        """Whether every process has to look, because each has a part of the weights only."""
        return self._sharding != "none"

    def begin(self) -> list[Record]:
        """Step 0: the probes themselves and how they stand."""
        return self._look(lambda: self._made().begin(), 0)

    def resume(self, state: ProbeState, step: int) -> list[Record]:
        """Go on from a checkpoint, and look."""

        def look() -> None:
            observer = self._made()
            observer.resume(state)
            observer.observe(step)

        return self._look(look, step)

    def observe(self, step: int, *, last: bool = False) -> list[Record]:
        """Look at a step; none where the first look failed, which was said then."""
        if self.observed is None:
            return []

        def look() -> None:
            observer = self._made()
            if step != self.observed:
                observer.observe(step)
            if step != self.observed or (last and self._config.answer_every is not None):
                observer.answer_if_due(step, last)

        return self._look(look, step)

    def state(self, step: int) -> ProbeState | None:
        return self._observer.state(step) if self.observed is not None and self._observer else None

    def summary(self) -> dict[str, Any]:
        if self._observer is None or self._forward is None or self.observed is None:
            return {}
        probes = self._observer.summarize()
        return {
            "forward": self._forward.kind,
            "probes": probes,
            "prompts": self._observer.summarize_prompts(),
            **summarize_probes(probes),
        }

    def _made(self) -> ProbeObserver:
        if self._observer is None:
            self._forward = ready_forward(self._loaded, self.pairs, self._reporter)
            self._observer = ProbeObserver(
                self._loaded,
                self._forward,
                self.pairs,
                self._config,
                self._reporter,
                self._reporter,
            )
        return self._observer

    def _look(self, look: Callable[[], None], step: int) -> list[Record]:
        self._reporter.records.clear()
        self._read(look)
        self.observed = step
        return list(self._reporter.records)

    def _read(self, work: Callable[[], None]) -> None:
        with undisturbed(self._model):
            within(self._model, work)


class _Keeping:
    """A Reporter that keeps records and passes messages on, and a Control that never stops."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.records: list[Record] = []
        self.message = report

    def put(self, *records: Record) -> None:
        self.records.extend(records)

    def phase(self, *_: object, **__: object) -> None: ...
    def progress(self, *_: object) -> None: ...
    def flush(self) -> None: ...
    def checkpointed(self) -> None: ...
    def check(self) -> None: ...
