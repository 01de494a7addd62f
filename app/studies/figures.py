"""The figures of a study as plain numbers: page and report draw them, each in its own colors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, Field

from app.studies.results import Cell, Result, Table

Color = Literal["preferred", "dispreferred", "run"]


class Series(BaseModel):
    """One line, or a row of bars or points."""

    name: str
    kind: Literal["line", "bars"]
    x: list[float | str]
    y: list[float | None]
    error: list[float | None] | None = Field(None, description="Standard deviation of each y.")
    low: list[float | None] | None = Field(
        None, description="Lower end of a band round the line, or of the bar's interval."
    )
    high: list[float | None] | None = None
    color: Color = Field("run", description="run: the next of the colors of runs.")


class Panel(BaseModel):
    """A chart. small: one of several of the same kind, which stand side by side."""

    title: str
    why: str
    x_title: str
    y_title: str
    series: list[Series]
    y_range: tuple[float, float] | None = None
    small: bool = False


def figures(kind: str, result: Result) -> list[Panel]:
    """The charts of a result, in their order."""
    if not result.tables:
        return []
    panels = _PANELS.get(kind, _drawdowns)(result)
    return [panel for panel in panels if any(series.x for series in panel.series)]


def _bars(table: Table, key: str, title: str, why: str, y_title: str) -> Panel:
    known = [cell for cell in table.cells if cell.numbers.get(key)]
    numbers = [cell.numbers[key] for cell in known]
    return Panel(
        title=title,
        why=why,
        x_title="",
        y_title=y_title,
        series=[
            Series(
                name=title,
                kind="bars",
                x=[cell.label for cell in known],
                y=[one.mean if one else None for one in numbers],
                error=[one.sd if one else None for one in numbers],
            )
        ],
    )


def _drawdowns(result: Result) -> list[Panel]:
    why = "The mean over the runs of each cell; the bars show one standard deviation."
    return [_bars(result.tables[0], "drawdown", "Largest drawdown", why, "probability")]


def _windows(result: Result) -> list[Panel]:
    by_measure: dict[str, list[Cell]] = {}
    for cell in result.tables[0].cells:
        if cell.numbers.get("change"):
            by_measure.setdefault(cell.label, []).append(cell)
    return [
        Panel(
            title="Similarity and displacement",
            why="Mean change of log p(y+) of the pairs of a window after training on them alone, "
            "by the percentile of the measure that the window lies round; the bars show one "
            "standard deviation over seeds.",
            x_title="percentile of the measure",
            y_title="change of log p(y+), nats",
            series=[
                Series(
                    name=label,
                    kind="line",
                    x=[float(cell.texts["percentile"]) for cell in cells],
                    y=[one.mean if (one := cell.numbers["change"]) else None for cell in cells],
                    error=[one.sd if (one := cell.numbers["change"]) else None for cell in cells],
                )
                for label, cells in by_measure.items()
            ],
        )
    ]


def _arms(result: Result) -> list[Panel]:
    table = result.tables[0]
    why = "The mean over seeds; the bars show one standard deviation."
    panels = [_bars(table, "preferred", "Change of log p(y+) by arm", why, "nats")]
    labels = {cell.key: cell.label for cell in table.cells}
    ends = [value for one in result.curves for value in (*one.low, *one.high) if value is not None]
    shared = (min(ends), max(ends)) if ends else None
    return panels + _small_multiples(result, labels, shared)


def _refusals(result: Result) -> list[Panel]:
    cells = [cell for cell in result.tables[0].cells if cell.numbers.get("train")]
    panels = [
        Panel(
            title="Refused prompts",
            why="The mean over seeds; the bars show the 95 % intervals of the answers of all "
            "seeds.",
            x_title="",
            y_title="refused, %",
            series=[_rates(cells, part) for part in ("train", "test")],
            y_range=(0, 102),
        )
    ]
    return [*panels, *_by_share(cells)]


def _rates(cells: Sequence[Cell], part: str) -> Series:
    ends = [cell.intervals.get(part) for cell in cells]
    return Series(
        name=f"{part} prompts",
        kind="bars",
        x=[cell.label for cell in cells],
        y=[_mean(cell, part) for cell in cells],
        low=[one.low if one else None for one in ends],
        high=[one.high if one else None for one in ends],
    )


def _by_share(cells: Sequence[Cell]) -> list[Panel]:
    """Refusal by the share of the pairs that is trained on; all of them is plain DPO."""
    whole = [(100.0, cell) for cell in cells if cell.key == "dpo"]
    series = []
    for arm, name in (("keep", "lowest ln-CHES"), ("random", "at random")):
        shares = [
            (float(share), cell)
            for cell in cells
            for of, _, share in [cell.key.partition("_")]
            if of == arm
        ]
        points = sorted([*shares, *whole], key=lambda one: one[0])
        if shares and len(points) > 1:
            series += [
                Series(
                    name=f"{name}, {part}",
                    kind="line",
                    x=[share for share, _ in points],
                    y=[_mean(cell, part) for _, cell in points],
                    error=[_sd(cell, part) for _, cell in points],
                )
                for part in ("train", "test")
            ]
    return [
        Panel(
            title="Refused prompts by the share of pairs kept",
            why="All arms take as many steps; at 100 % stands DPO on all pairs. The bars show one "
            "standard deviation over seeds.",
            x_title="pairs trained on, %",
            y_title="refused, %",
            series=series,
            y_range=(0, 102),
        )
    ]


def _mean(cell: Cell, key: str) -> float | None:
    spread = cell.numbers.get(key)
    return spread.mean if spread else None


def _sd(cell: Cell, key: str) -> float | None:
    spread = cell.numbers.get(key)
    return spread.sd if spread else None


def _small_multiples(
    result: Result, labels: Mapping[str, str], shared: tuple[float, float] | None
) -> list[Panel]:
    by_arm: dict[str, list[Series]] = {}
    names: Mapping[str, tuple[str, Color]] = {
        "preferred": ("log p(y+)", "preferred"),
        "dispreferred": ("log p(y−)", "dispreferred"),
    }
    for one in result.curves:
        name, color = names[one.key]
        by_arm.setdefault(one.cell, []).append(
            Series(
                name=name,
                kind="line",
                x=_numbers(one.steps),
                y=one.mean,
                low=one.low,
                high=one.high,
                color=color,
            )
        )
    return [
        Panel(
            title=labels.get(arm, arm),
            why="Mean change over the watched pairs; the band is from the least to the greatest "
            "seed.",
            x_title="step",
            y_title="nats",
            series=series,
            y_range=_padded(shared),
            small=True,
        )
        for arm, series in by_arm.items()
    ]


def _numbers(steps: Sequence[int]) -> list[float | str]:
    return [float(step) for step in steps]


def _padded(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    if ends is None:
        return None
    pad = 0.05 * ((ends[1] - ends[0]) or 1)
    return ends[0] - pad, ends[1] + pad


_PANELS: Mapping[str, Callable[[Result], list[Panel]]] = {
    "similarity": _windows,
    "unalignment": _refusals,
    "remedy_bench": _arms,
}
