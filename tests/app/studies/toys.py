"""A study of two phases that needs no model: a first run, then one for each cell and seed, if asked
on a dataset that is made in between."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from sqlalchemy.orm import Session

from app.judgments.schemas import PairsRequest
from app.studies.plans import MadeRun, Place, Plan, PlannedPairs, PlannedRun, Wanted, succeeded
from app.studies.results import Cell, CellRun, Result, Table

PAIRS_NAME = "made by the study"
CONFIG = {"model": "org/tiny"}
"""Of a hub name no model has to be there."""


class ToyPlan(Plan):
    kind: Literal["toy"] = "toy"
    cells: list[str] = Field(["a", "b"])
    makes_pairs: bool = False


class Toy:
    name = "toy"
    label = "Toy"
    about = "For tests."
    plan = ToyPlan
    grows = ("seeds", "cells")

    def complete(self, session: Session, plan: ToyPlan) -> ToyPlan:
        return plan

    def wanted(self, session: Session, plan: ToyPlan, made: Sequence[MadeRun]) -> Wanted:
        first = PlannedRun(Place("", 0, "first"), "train", CONFIG, "first")
        total = 1 + len(plan.cells) * len(plan.seeds)
        done = succeeded(made, "first")
        if done is None:
            return Wanted([first], total, is_all=False)
        if plan.makes_pairs and done.dataset_id is None:
            pairs = PlannedPairs(done.id, PairsRequest(name=PAIRS_NAME))
            return Wanted([first], total, is_all=False, pairs=pairs)
        runs = [
            PlannedRun(
                Place(cell, seed, "arm"), "train", {**CONFIG, "seed": seed}, cell, done.dataset_id
            )
            for seed in plan.seeds
            for cell in plan.cells
        ]
        return Wanted([first, *runs], total)

    def result(self, session: Session, plan: ToyPlan, made: Sequence[MadeRun]) -> Result:
        cells = [
            Cell(
                key=cell,
                label=cell,
                runs=[
                    CellRun(run_id=run.id, seed=run.place.seed, status=run.status)
                    for run in made
                    if run.place.cell == cell and run.status == "succeeded"
                ],
            )
            for cell in plan.cells
        ]
        return Result(sentences=["done"], tables=[Table(title="Toy", columns=[], cells=cells)])


def toy_plan(dataset_id: int, **fields: Any) -> ToyPlan:
    return ToyPlan.model_validate({"dataset_id": dataset_id, "model": "org/tiny", **fields})
