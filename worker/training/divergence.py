"""When training has diverged: too many steps whose loss or gradient is not finite."""

from chesboard.reporting import Reporter

MOST_NOT_FINITE = 3
"""Consecutive steps with a loss or gradient norm that is not finite, after which a run fails."""


class TrainingDivergedError(ValueError):
    """The loss or its gradient was not finite for MOST_NOT_FINITE steps in a row."""


class DivergenceCheck:
    """Counts the steps in a row that are not finite."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter, self._not_finite = reporter, 0

    def check(self, step: int, finite: bool) -> None:
        """Raises:
        TrainingDivergedError: this is the last of MOST_NOT_FINITE.
        """
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
