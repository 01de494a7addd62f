"""Interfaces between the computing code and its host: reporting results, and being stopped."""

from typing import Literal, Protocol

from chesboard.records import Record

PhaseName = Literal[
    "waiting for seats",
    "downloading",
    "dequantizing",
    "loading",
    "tokenizing",
    "comparing forward passes",
    "reference pass",
    "initial probes",
    "scoring",
    "pre-flight",
    "fine-tuning on both responses",
    "generating",
    "judging",
    "training",
    "filtering",
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
    """Checked by the computing code for a request to stop."""

    def check(self) -> None:
        """Called at least once a forward pass.

        Raises:
            RunCancelledError, RunInterruptedError, LeaseLostError: stop now.
        """


class Reporter(Protocol):
    """Receives records and progress from the training thread; implementations may write them
    asynchronously, and block the caller only where their buffer is full."""

    def put(self, *records: Record) -> None:
        """Hand over records of any kinds. Records of one kind are stored in the order given, and a
        record with the key of an earlier one replaces it."""

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
        """Add a notice for the user, shown on the run's page. Repeated texts are kept once."""

    def flush(self) -> None:
        """Return once everything handed over so far is stored."""

    def checkpointed(self) -> None:
        """A checkpoint was written: a later attempt at the run resumes from here."""
