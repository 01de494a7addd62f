"""Similarity against displacement: Figure 2 of arXiv 2410.08847.

Scores pairs, takes windows of them round percentiles of each measure, trains each window alone,
and holds the mean change of log p(y+) of the trained pairs against the measure.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import ConflictError, InvalidInputError
from app.runs.validation import check_selection
from app.store.lookup import Id, find_run, require_dataset
from app.store.scores import Score, finite
from app.store.selection import count_selected
from app.studies.kinds.similarity_result import similarity_result
from app.studies.plans import (
    PAPER,
    MadeRun,
    Place,
    Plan,
    PlannedRun,
    Wanted,
    scoring,
    succeeded,
    train_config,
    unique,
)
from app.studies.results import Result
from chesboard.configs import Selection
from chesboard.measures.registry import MEASURES, MeasureName

Percentile = Annotated[int, Field(ge=0, le=100)]

DEFAULTS: Mapping[str, Any] = {
    **PAPER,
    "objective": "dpo",
    "batch_size": 8,
    "probes": {"count": 4},
}
LABELS = {measure.name: measure.label for measure in MEASURES}


class SimilarityPlan(Plan):
    own = ("measure_displacement",)

    kind: Literal["similarity"] = "similarity"
    selection: Selection = Field(
        default_factory=lambda: Selection(limit=512),
        description="The pairs that are scored and that the windows are taken of.",
    )
    score_run: Id | None = Field(
        None,
        description="A finished score run of the same model over the dataset, in place of a new "
        "one.",
    )
    measures: list[MeasureName] = Field(
        [
            "ches",
            "normalized_edit_distance",
            "last_hidden_inner_product",
            "head_shift",
            "length_gap",
        ],
        min_length=1,
        description="Measures whose windows are trained. The length gap is a control: CHES is "
        "largely an effect of length.",
    )
    percentiles: list[Percentile] = Field(
        [0, 25, 50, 75, 100], min_length=1, max_length=21, description="Centers of the windows."
    )
    window: int = Field(16, ge=1, le=10_000, description="Pairs in a window. The paper has 512.")
    epochs: int = Field(1, ge=1, le=1000, description="Passes over a window.")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        self.measures = unique(self.measures)
        self.percentiles = sorted(unique(self.percentiles))
        return self


class Similarity:
    name = "similarity"
    label = "Similarity and displacement (Figure 2)"
    about = (
        "Trains on windows of pairs round percentiles of CHES and other measures, each alone, and "
        "shows which measure orders how much the preferred responses lose."
    )
    plan = SimilarityPlan
    grows = ("seeds", "measures", "percentiles")

    def complete(self, session: Session, plan: SimilarityPlan) -> SimilarityPlan:
        dataset = require_dataset(session, plan.dataset_id)
        check_selection(session, dataset, plan.selection, "selection")
        if plan.score_run is not None:
            selection = _selection_of(session, plan, plan.score_run)
            plan = plan.model_copy(update={"selection": selection})
        pairs = count_selected(session, dataset.id, plan.selection)
        if pairs < plan.window:
            message = f"A window has {plan.window} pairs, but the selection leaves {pairs}."
            raise InvalidInputError(message, [{"field": "window", "message": message}])
        return plan

    def wanted(self, session: Session, plan: SimilarityPlan, made: Sequence[MadeRun]) -> Wanted:
        total = len(plan.measures) * len(plan.percentiles) * len(plan.seeds)
        scores, scored = [], plan.score_run
        if scored is None:
            scores = [scoring(plan, "Scores for windows", plan.selection.model_dump(mode="json"))]
            run = succeeded(made, "score")
            if run is None:
                return Wanted(scores, total + 1, is_all=False)
            scored = run.id
        found = {name: read_values(session, scored, name) for name in plan.measures}
        runs = window_runs(plan, found)
        return Wanted([*scores, *runs], total + len(scores))

    def result(self, session: Session, plan: SimilarityPlan, made: Sequence[MadeRun]) -> Result:
        run = succeeded(made, "score")
        scored = plan.score_run or (run.id if run else None)
        values = {
            name: dict(read_values(session, scored, name)) if scored else {}
            for name in plan.measures
        }
        return similarity_result(session, made, values, cells_of(plan))


def cells_of(plan: SimilarityPlan) -> dict[str, tuple[MeasureName, int]]:
    return {
        f"{measure} @ {percentile}": (measure, percentile)
        for measure in plan.measures
        for percentile in plan.percentiles
    }


def window_runs(
    plan: SimilarityPlan, values: Mapping[MeasureName, Sequence[tuple[int, float]]]
) -> list[PlannedRun]:
    """values: of each measure, (pair, value) ascending by value.

    Raises:
        ConflictError: fewer pairs than a window has have a finite value of a measure.
    """
    runs = []
    for seed in plan.seeds:
        for key, (measure, percentile) in cells_of(plan).items():
            pairs = window(values[measure], plan.window, percentile)
            if len(pairs) < plan.window:
                raise ConflictError(
                    f"Only {len(pairs)} pairs have a finite value of {measure}, and a window has "
                    f"{plan.window}. Leave the measure out, or take smaller windows."
                )
            config = train_config(
                plan,
                DEFAULTS,
                selection={"pairs": sorted(pairs)},
                epochs=plan.epochs,
                seed=seed,
                save_model=False,
                measure_displacement=True,
            )
            name = f"{LABELS[measure]}, percentile {percentile}, seed {seed}"
            runs.append(PlannedRun(Place(key, seed, "train"), "train", config, name))
    return runs


def window(values: Sequence[tuple[int, float]], size: int, percentile: int) -> list[int]:
    """The `size` pairs round a percentile, as far as there are so many; at either end the outermost
    ones. values: (pair, value) ascending by value."""
    center = round(percentile / 100 * (len(values) - 1))
    start = min(max(0, center - size // 2), max(0, len(values) - size))
    return [pair for pair, _ in values[start : start + size]]


def read_values(session: Session, run_id: int, measure: MeasureName) -> list[tuple[int, float]]:
    """(pair, value) of a score run's pairs with a finite value, ascending by value."""
    value = finite(measure)
    rows = session.execute(
        select(Score.pair, value)
        .where(Score.run_id == run_id, value.is_not(None))
        .order_by(value, Score.pair)
    )
    return [(pair, found) for pair, found in rows if found is not None]


def _selection_of(session: Session, plan: SimilarityPlan, score_run: int) -> Selection:
    run = find_run(session, score_run)
    problem = None
    if run is None or run.kind != "score" or run.status != "succeeded":
        problem = f"Run {score_run} is no score run that has succeeded."
    elif run.dataset_id != plan.dataset_id:
        problem = f"Run {score_run} scored dataset {run.dataset_id}, not {plan.dataset_id}."
    elif run.config["model"] != plan.model:
        problem = f"Run {score_run} scored by {run.config['model']}, not by {plan.model}."
    if run is None or problem is not None:
        raise InvalidInputError(problem or "", [{"field": "score_run", "message": problem or ""}])
    return Selection.model_validate(run.config.get("selection") or {})
