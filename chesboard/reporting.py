"""Interfaces between the computing code and its host: reporting results, and being stopped."""

from typing import Protocol

from chesboard.records import Record


class RunCancelledError(Exception):
    """A user asked for the run to be cancelled."""


class RunInterruptedError(Exception):
    """The worker is shutting down; the run returns to the queue and resumes later."""


class LeaseLostError(Exception):
    """The run's lease belongs to another worker now; nothing more may be written."""


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

    def progress(self, done: int, total: int, unit: str) -> None: ...

    def message(self, text: str) -> None:
        """Add a notice for the user, shown on the run's page. Repeated texts are kept once."""

    def flush(self) -> None:
        """Return once everything handed over so far is stored."""

    def checkpointed(self) -> None:
        """A checkpoint was written: a later attempt at the run resumes from here."""
