"""How the computing code reports and how it is told to stop, with no word of queues or SQL."""

from collections.abc import Sequence
from typing import Literal, Protocol

from chesboard.records import (
    AnswerRecord,
    FinalRecord,
    MetricRecord,
    PositionRecord,
    PositionStepRecord,
    ProbeRecord,
    ProbeStepRecord,
    ScoreRecord,
)

PhaseName = Literal[
    "downloading",
    "dequantizing",
    "loading",
    "tokenizing",
    "comparing forward passes",
    "reference pass",
    "initial probes",
    "scoring",
    "training",
    "measuring displacement",
    "saving the model",
]
"""What a run does at a time; its page shows these words."""


class RunStoppedError(Exception):
    """The run must stop here, for a reason that is no failure of it."""


class RunCancelledError(RunStoppedError):
    """Someone asked for the run to be cancelled."""


class RunInterruptedError(RunStoppedError):
    """The worker is shutting down; the run goes back to the queue."""


class LeaseLostError(RunStoppedError):
    """The run now belongs to another worker; nothing more may be written."""


class Control(Protocol):
    def check(self) -> None:
        """Called at least once a forward pass.

        Raises:
            RunCancelledError, RunInterruptedError, LeaseLostError: stop now.
        """


class Reporter(Protocol):
    """Takes records in any thread-free order; returns at once (writing happens elsewhere)."""

    def phase(
        self,
        name: PhaseName,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
    ) -> None:
        """The run enters a phase, or advances in it: `done` of `total` `unit`, where it counts.

        Cheap: may be called at every chunk of a download and from any thread.
        """

    def progress(self, done: int, total: int, unit: str) -> None:
        """Progress of the run, and of its present phase."""

    def message(self, text: str) -> None:
        """Something the user should know, shown on the run's page."""

    def metric(self, record: MetricRecord) -> None: ...

    def probe(self, record: ProbeRecord) -> None: ...

    def probe_step(self, record: ProbeStepRecord) -> None: ...

    def position(self, record: PositionRecord) -> None: ...

    def position_step(self, record: PositionStepRecord) -> None: ...

    def answer(self, record: AnswerRecord) -> None: ...

    def finals(self, records: Sequence[FinalRecord]) -> None:
        """Trained pairs as they are after the last step."""

    def scores(self, records: Sequence[ScoreRecord]) -> None: ...

    def reference(self, records: Sequence[tuple[int, float, float]]) -> None:
        """(pair, log p(y+), log p(y-)) under the reference model."""

    def flush(self) -> None:
        """Return once everything handed over so far is in the store."""

    def checkpointed(self) -> None:
        """A checkpoint was written: what was done so far is not done again."""
