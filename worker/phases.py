"""The phase of a run, reported step by step."""

from chesboard.reporting import Control, PhaseName, Reporter
from worker.models.progress import OnPhase


def phases(reporter: Reporter, control: Control) -> OnPhase:
    """A callback that reports a phase and raises if the run was cancelled or must stop."""

    def on_phase(
        name: PhaseName,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
    ) -> None:
        control.check()
        reporter.phase(name, done, total, unit)

    return on_phase
