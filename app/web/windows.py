"""The query parameters `points`, `from_step` and `to_step`, as a dependency of routes."""

from typing import Annotated

from fastapi import Depends, Query

from app.core.windows import MAX_STEP, Window


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
