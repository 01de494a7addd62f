"""Which part of a long series is asked for, and how finely."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query
from sqlalchemy import ColumnElement

MOST_STEPS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Window:
    """Steps from `from_step` to `to_step`, both included; at most about `points` of them."""

    from_step: int | None = None
    to_step: int | None = None
    points: int | None = None

    def conditions(self, step: Any) -> list[ColumnElement[bool]]:
        """What a column of steps must meet."""
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
            description="Return about this many steps at most, chosen so that extremes survive; "
            "left out: all.",
        ),
    ] = None,
    from_step: Annotated[int | None, Query(ge=0, le=MOST_STEPS)] = None,
    to_step: Annotated[int | None, Query(ge=0, le=MOST_STEPS)] = None,
) -> Window:
    return Window(from_step, to_step, points)


WindowDep = Annotated[Window, Depends(_window)]
