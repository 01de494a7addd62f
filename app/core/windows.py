"""The window of a long series that a request asks for: its range of steps and its resolution."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement

MAX_STEP = 2**31 - 1
"""The largest value of PostgreSQL's integer type."""


@dataclass(frozen=True, slots=True)
class Window:
    """Steps from `from_step` to `to_step`, both included, downsampled to about `points` of them.

    None: no bound on that side, no downsampling.
    """

    from_step: int | None = None
    to_step: int | None = None
    points: int | None = None

    def conditions(self, step: Any) -> list[ColumnElement[bool]]:
        """SQL conditions on a column of steps."""
        found = []
        if self.from_step is not None:
            found.append(step >= self.from_step)
        if self.to_step is not None:
            found.append(step <= self.to_step)
        return found


WHOLE = Window()
