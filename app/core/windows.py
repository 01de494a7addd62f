"""The window of a long series that a request asks for: its range of steps and its resolution."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query
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


def _window(
    points: Annotated[
        int | None,
        Query(
            ge=2,
            le=1_000_000,
            description="Downsample to about this many steps, keeping the extremes. Default: all "
            "steps.",
        ),
    ] = None,
    from_step: Annotated[int | None, Query(ge=0, le=MAX_STEP, description="First step.")] = None,
    to_step: Annotated[int | None, Query(ge=0, le=MAX_STEP, description="Last step.")] = None,
) -> Window:
    return Window(from_step, to_step, points)


WindowDep = Annotated[Window, Depends(_window)]
