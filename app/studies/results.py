"""The shape of a study's result, one for all kinds: sentences, tables of cells, and curves.

A cell holds numbers with their spread over runs and the runs themselves, so that a page, a CSV
file and a report are made of the same thing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Self

from pydantic import BaseModel, Field

from app.studies.plans import MadeRun

STILL = 1e-4
"""Differences of means up to this count as none, whatever the spread."""


class Spread(BaseModel):
    """A number over runs."""

    mean: float
    sd: float | None = Field(description="Standard deviation over the runs; null for one run.")
    n: int
    low: float
    high: float
    values: list[float] = Field(description="One a run, in the order of the cell's runs.")

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self | None:
        """None where no value is finite."""
        known = [value for value in values if value is not None and math.isfinite(value)]
        if not known:
            return None
        return cls(
            mean=fmean(known),
            sd=stdev(known) if len(known) > 1 else None,
            n=len(known),
            low=min(known),
            high=max(known),
            values=known,
        )


def signed(value: float) -> str:
    """Three significant digits with a sign, a true minus among them."""
    return f"{value:+.3g}".replace("-", "−")


def differs(one: Spread | None, other: Spread | None) -> bool:
    """Whether two means are further apart than two standard deviations over the seeds, pooled.

    False where either has a single run: its spread is not known.
    """
    if one is None or other is None or one.sd is None or other.sd is None:
        return False
    pooled = math.sqrt((one.sd**2 + other.sd**2) / 2)
    return abs(one.mean - other.mean) > max(2 * pooled, STILL)


class CellRun(BaseModel):
    """A run behind a cell."""

    run_id: int
    seed: int
    status: str
    left_out: str | None = Field(None, description="Why the cell's numbers are without it.")


def cell_runs(made: Iterable[MadeRun], left_out: Mapping[int, str] | None = None) -> list[CellRun]:
    """left_out: run id → why the cell's numbers are without it."""
    return [
        CellRun(
            run_id=run.id,
            seed=run.place.seed,
            status=run.status,
            left_out=(left_out or {}).get(run.id),
        )
        for run in made
    ]


class Column(BaseModel):
    key: str
    label: str
    help: str = ""
    unit: str = ""


class Interval(BaseModel):
    """A 95 % interval of a rate, in the unit of the column."""

    low: float
    high: float


class Cell(BaseModel):
    """A row of a table. numbers, intervals and texts: by the column's key."""

    key: str
    label: str
    numbers: dict[str, Spread | None] = Field(default_factory=dict)
    intervals: dict[str, Interval] = Field(default_factory=dict)
    texts: dict[str, str] = Field(default_factory=dict)
    runs: list[CellRun] = Field(default_factory=list)
    answers: list[CellRun] = Field(
        default_factory=list, description="Judge runs, whose pages show the answers behind it."
    )


class Table(BaseModel):
    title: str
    columns: list[Column]
    cells: list[Cell]
    note: str = ""


class Curve(BaseModel):
    """A number over steps: the mean over runs, and their least and greatest."""

    cell: str
    key: str
    steps: list[int]
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]


class PaperRow(BaseModel):
    """A published number, to set beside."""

    label: str
    value: str
    source: str


class Result(BaseModel):
    sentences: list[str] = Field(description="What came out, in words.")
    tables: list[Table]
    curves: list[Curve] = Field(default_factory=list)
    paper: list[PaperRow] = Field(default_factory=list)


def curve(cell: str, key: str, runs: Sequence[Sequence[tuple[int, float | None]]]) -> Curve:
    """Over the steps that any of the runs recorded. runs: (step, value) of each."""
    by_step: dict[int, list[float]] = {}
    for points in runs:
        for step, value in points:
            found = by_step.setdefault(step, [])
            if value is not None and math.isfinite(value):
                found.append(value)
    steps = sorted(by_step)
    known = [by_step[step] for step in steps]
    return Curve(
        cell=cell,
        key=key,
        steps=steps,
        mean=[fmean(values) if values else None for values in known],
        low=[min(values, default=None) for values in known],
        high=[max(values, default=None) for values in known],
    )
