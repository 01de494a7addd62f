"""Training on one pair at a time: Tables 1 to 4 of arXiv 2410.08847.

A cell is a pair of responses and an objective; its seeds are different prompts. Of each run the
largest drawdown of the preferred token's probability at the fork, and the tokens that gained.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.errors import InvalidInputError
from app.runs.validation import check_pairs
from app.store.datasets import Dataset, Pair
from app.store.lookup import require_dataset
from app.studies.kinds.single_pair_result import cell_label, single_pair_result
from app.studies.plans import (
    MAX_NAME,
    PAPER,
    MadeRun,
    Place,
    Plan,
    PlannedRun,
    Wanted,
    shared_config,
    succeeded,
    train_config,
    unique,
)
from app.studies.results import Result
from chesboard.configs import Objective
from chesboard.configs.base import Ordinal

MAX_PROMPTS = 200
"""Prompts that a cell remembers: as many seeds can it have."""
PER_WORD = 9
"""Pairs of each preferred response that the fine-tuning is taught, so that none crowds out the
others: a token whose probability is near zero can neither lose nor gain much."""

DEFAULTS: Mapping[str, Any] = {
    **PAPER,
    "token_groups": {
        "affirmative": ["Yes", "Yeah", "Sure", "Certainly", "Absolutely"],
        "negative": ["No", "Never", "Nope"],
    },
    "opposite_groups": [["affirmative", "negative"]],
}
FINE_TUNE: Mapping[str, Any] = {
    "objective": "cross_entropy",
    "optimizer": "adamw",
    "learning_rate": 3e-5,
    "batch_size": 8,
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FineTuning(_Part):
    """Cross-entropy on preferred responses before the pairs are trained on."""

    epochs: int = Field(3, ge=1, le=100, description="Passes over its pairs.")
    learning_rate: float = Field(3e-5, gt=0, le=1, description="Of AdamW.")
    pairs: list[Ordinal] | None = Field(
        None,
        description="Ordinals of its pairs. Default: at most 9 of each preferred response, without "
        "those that the study trains on.",
    )


class WordCell(_Part):
    """Two responses, and the pairs of the dataset that have them: one prompt for each seed."""

    preferred: str
    dispreferred: str
    pairs: list[Ordinal] = Field(min_length=1, max_length=MAX_PROMPTS)


class SinglePairPlan(Plan):
    own = (
        *("objective", "probes", "probe_every", "batch_size", "gradient_accumulation"),
        "measure_displacement",
    )

    kind: Literal["single_pair"] = "single_pair"
    pairs: list[Ordinal] | None = Field(
        None,
        max_length=1000,
        description="Only these pairs of the dataset. Default: all; those with the same two "
        "responses are one cell, and each seed takes another prompt.",
    )
    max_cells: int = Field(
        4,
        ge=1,
        le=50,
        description="At most so many pairs of responses: those that most prompts have.",
    )
    cells: list[WordCell] | None = Field(
        None, max_length=50, description="The cells themselves. Default: found in the dataset."
    )
    objectives: list[Objective] = Field(
        ["dpo"], min_length=1, description="Each has cells of its own. The paper uses dpo and ipo."
    )
    steps: int = Field(100, ge=1, le=10_000, description="Optimizer steps of each run.")
    recorded: list[Annotated[int, Field(ge=0, le=10_000)]] = Field(
        [1, 5, 25, 100],
        max_length=20,
        description="Steps whose top gainers are listed, as far as the runs have them.",
    )
    fine_tune: FineTuning | None = Field(
        None, description="A fine-tuning that all runs start from. Default: none."
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        self.objectives = unique(self.objectives)
        return self


class SinglePair:
    name = "single_pair"
    label = "Single pairs (Tables 1–4)"
    about = (
        "Trains on one pair at a time and follows where the probability of the preferred token "
        "goes: its largest drawdown, and the tokens that gain."
    )
    plan = SinglePairPlan
    grows = ("seeds", "objectives")

    def complete(self, session: Session, plan: SinglePairPlan) -> SinglePairPlan:
        """Finds the cells and the pairs of the fine-tuning."""
        dataset = require_dataset(session, plan.dataset_id)
        check_pairs(session, dataset, plan.pairs, "pairs")
        cells = plan.cells or _find_cells(session, dataset, plan)
        check_pairs(session, dataset, [p for cell in cells for p in cell.pairs], "cells")
        tuning = plan.fine_tune
        if tuning is not None:
            check_pairs(session, dataset, tuning.pairs, "fine_tune.pairs")
            taught = tuning.pairs or _taught(session, dataset, plan, cells)
            tuning = tuning.model_copy(update={"pairs": taught})
        return plan.model_copy(update={"cells": cells, "fine_tune": tuning})

    def wanted(self, session: Session, plan: SinglePairPlan, made: Sequence[MadeRun]) -> Wanted:
        return single_pair_runs(plan, made)

    def result(self, session: Session, plan: SinglePairPlan, made: Sequence[MadeRun]) -> Result:
        return single_pair_result(session, made, plan.recorded)


def single_pair_runs(plan: SinglePairPlan, made: Sequence[MadeRun]) -> Wanted:
    cells = list(zip(_labels(plan), plan.cells or [], strict=True))
    # Seeds outermost: every cell has its first run before any has its second.
    prompts = [
        (label, seed, cell.pairs[index])
        for index, seed in enumerate(plan.seeds)
        for label, cell in cells
        if index < len(cell.pairs)
    ]
    total = len(prompts) * len(plan.objectives) + (plan.fine_tune is not None)
    messages = [
        f"{label}: {len(cell.pairs)} prompts have these responses, so it has no more runs."
        for label, cell in cells
        if len(cell.pairs) < len(plan.seeds)
    ]
    model, runs = plan.model, []
    if plan.fine_tune is not None:
        tuning = _fine_tuning(plan, plan.fine_tune)
        tuned = succeeded(made, "fine_tune")
        if tuned is None:
            return Wanted([tuning], total, is_all=False, messages=messages)
        model, runs = f"run:{tuned.id}", [tuning]
    for label, seed, pair in prompts:
        runs += [_run(plan, model, label, one, seed, pair) for one in plan.objectives]
    return Wanted(runs, total, messages=messages)


def _labels(plan: SinglePairPlan) -> list[str]:
    """Of each cell, all different: long responses are cut."""
    found: list[str] = []
    for cell in plan.cells or []:
        label = cell_label(cell.preferred, cell.dispreferred)
        found.append(label if label not in found else f"{label} ({len(found) + 1})")
    return found


def _run(
    plan: SinglePairPlan, model: str, label: str, objective: str, seed: int, pair: int
) -> PlannedRun:
    config = train_config(
        plan,
        DEFAULTS,
        model=model,
        revision=plan.revision if plan.fine_tune is None else None,
        objective=objective,
        selection={"pairs": [pair]},
        probes={"pairs": [pair]},
        probe_every=1,
        batch_size=1,
        epochs=plan.steps,
        seed=seed,
        save_model=False,
    )
    place = Place(f"{objective}: {label}", seed, "train")
    return PlannedRun(place, "train", config, f"{objective}, {label}, pair {pair}"[:MAX_NAME])


def _fine_tuning(plan: SinglePairPlan, tuning: FineTuning) -> PlannedRun:
    pairs = tuning.pairs or []
    config = {
        **FINE_TUNE,
        **shared_config(plan),
        "learning_rate": tuning.learning_rate,
        "epochs": tuning.epochs,
        "selection": {"pairs": pairs},
        "probes": {"count": 4},
        "measure_displacement": False,
        "seed": plan.seeds[0],
    }
    return PlannedRun(Place("", 0, "fine_tune"), "train", config, "Fine-tuning for single pairs")


def _find_cells(session: Session, dataset: Dataset, plan: SinglePairPlan) -> list[WordCell]:
    prompts = func.count().label("prompts")
    conditions = [Pair.dataset_id == dataset.id]
    if plan.pairs is not None:
        conditions.append(among(Pair.pair, plan.pairs))
    groups = session.execute(
        select(Pair.preferred, Pair.dispreferred, prompts)
        .where(*conditions)
        .group_by(Pair.preferred, Pair.dispreferred)
        .order_by(prompts.desc(), func.min(Pair.pair))
        .limit(plan.max_cells)
    ).all()
    if not groups:
        message = "The dataset has no pairs to train on."
        raise InvalidInputError(message, [{"field": "pairs", "message": message}])
    # In the order of a hash, so that the first prompts are no more alike than any.
    order = (func.md5(func.concat("0:", Pair.pair)), Pair.pair)
    return [
        WordCell(
            preferred=preferred,
            dispreferred=dispreferred,
            pairs=list(
                session.scalars(
                    select(Pair.pair)
                    .where(
                        *conditions,
                        Pair.preferred == preferred,
                        Pair.dispreferred == dispreferred,
                    )
                    .order_by(*order)
                    .limit(MAX_PROMPTS)
                )
            ),
        )
        for preferred, dispreferred, _ in groups
    ]


def _taught(
    session: Session, dataset: Dataset, plan: SinglePairPlan, cells: Sequence[WordCell]
) -> list[int]:
    """The pairs of the fine-tuning; of all pairs where the study trains on every one."""
    studied = {pair for cell in cells for pair in cell.pairs[: len(plan.seeds)]}
    place = func.row_number().over(partition_by=Pair.preferred, order_by=Pair.pair)
    for left_out in (studied, set[int]()):
        ranked = (
            select(Pair.pair, place.label("place"))
            .where(Pair.dataset_id == dataset.id, Pair.pair.not_in(left_out))
            .subquery()
        )
        taught = session.scalars(
            select(ranked.c.pair).where(ranked.c.place <= PER_WORD).order_by(ranked.c.pair)
        ).all()
        if taught:
            return list(taught)
    return []
