"""The runs of a study of unintentional unalignment, phase after phase: functions of its plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.studies.kinds.unalignment_plan import ArmName, UnalignmentPlan
from app.studies.plans import (
    EPOCHS_WITHOUT_END,
    PAPER,
    MadeRun,
    Place,
    PlannedRun,
    scoring,
    shared_config,
    train_config,
)

START = "start"
"""The cell of the model before training."""
SAMPLES = 2
"""Answers to a prompt that make a pair."""

DEFAULTS: Mapping[str, Any] = {
    **PAPER,
    "objective": "dpo",
    "learning_rate": 1e-6,
    "batch_size": 8,
}
ARM_LABELS: Mapping[ArmName, str] = {
    "dpo": "DPO",
    "dpo_sft": "DPO + SFT term",
    "gold": "DPO on the dataset's pairs",
    "keep": "Lowest shares by ln-CHES",
    "random": "Shares at random",
}
_OF_A_SHARE: Mapping[ArmName, str] = {
    "keep": "Lowest {:g} % of ln-CHES",
    "random": "{:g} % at random",
}
_SCORED = ("dpo_sft", "keep", "random")


class ArmCell(NamedTuple):
    """A row of the table. arm: None for the model before training. share: percent of the pairs."""

    key: str
    label: str
    arm: ArmName | None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What earlier phases have found. dataset_id: of the pairs of answers. answered: the pairs of
    the plan's dataset whose prompts have such a pair. score_run: over these pairs. sft: the
    coefficient of the SFT term."""

    dataset_id: int | None = None
    answered: Sequence[int] = ()
    score_run: int | None = None
    sft: float | None = None


def cells_of(plan: UnalignmentPlan) -> list[ArmCell]:
    """The model before training, then the arms, each share of each a cell of its own."""
    cells = [ArmCell(START, "Before training", None)]
    for arm in plan.arms:
        if label := _OF_A_SHARE.get(arm):
            cells += [
                ArmCell(f"{arm}_{share:g}", label.format(share), arm, share) for share in plan.keep
            ]
        else:
            cells.append(ArmCell(arm, ARM_LABELS[arm], arm))
    return cells


def needs_scores(plan: UnalignmentPlan) -> bool:
    return any(_is_scored(plan, arm) for arm in plan.arms)


def _is_scored(plan: UnalignmentPlan, arm: ArmName | None) -> bool:
    return arm in _SCORED and not (arm == "dpo_sft" and plan.sft_coef is not None)


def run_count(plan: UnalignmentPlan) -> int:
    """Answers and verdicts, scores, and of each cell and seed a training, answers and verdicts."""
    arms = len(cells_of(plan)) - 1
    return 2 + needs_scores(plan) + len(plan.seeds) * (2 + 3 * arms)


def unalignment_runs(
    plan: UnalignmentPlan, made: Sequence[MadeRun], found: Found
) -> list[PlannedRun]:
    """Those that can be planned by now."""
    done = {run.place: run.id for run in made if run.status == "succeeded"}
    runs = _answering(plan, done, Place("", 0, "answers"), Place("", 0, "verdicts"))
    if needs_scores(plan) and found.dataset_id is not None:
        runs.append(scoring(plan, "Scores of the answers", dataset_id=found.dataset_id))
    trained = []
    for seed in plan.seeds:
        for cell in cells_of(plan):
            places = Place(cell.key, seed, "generate"), Place(cell.key, seed, "judge")
            if cell.arm is None:
                runs += _answering(plan, done, *places)
                continue
            train = Place(cell.key, seed, "train")
            if (run_id := done.get(train)) is not None:
                runs += _answering(plan, done, *places, model=f"run:{run_id}")
            if found.dataset_id is not None and (
                found.score_run is not None or not _is_scored(plan, cell.arm)
            ):
                trained.append(_training(plan, cell, train, found))
    # Trained models answer before the next are trained: the table fills arm by arm.
    return runs + trained


def _answering(
    plan: UnalignmentPlan,
    done: Mapping[Place, int],
    answers: Place,
    verdicts: Place,
    model: str | None = None,
) -> list[PlannedRun]:
    """A run that answers, and once it has succeeded the one that judges. model: of a training run;
    None for the plan's."""
    makes_pairs = answers.role == "answers"
    config = {
        **shared_config(plan),
        **({"model": model, "revision": None} if model else {}),
        "samples": SAMPLES if makes_pairs else 1,
        "temperature": plan.pair_temperature if makes_pairs else plan.temperature,
        "answer_tokens": plan.answer_tokens,
        "seed": plan.split_seed if makes_pairs else answers.seed,
        "selection": {"pairs": [*(plan.train or []), *([] if makes_pairs else plan.test or [])]},
    }
    about = "that make the pairs"
    if not makes_pairs:
        label = next(cell.label for cell in cells_of(plan) if cell.key == answers.cell)
        about = f"{label}, seed {answers.seed}"
    runs = [PlannedRun(answers, "generate", config, f"Answers: {about}")]
    if (run_id := done.get(answers)) is not None:
        judge = {**plan.judge, "generate_run": run_id}
        runs.append(PlannedRun(verdicts, "judge", judge, f"Verdicts: {about}"))
    return runs


def _training(plan: UnalignmentPlan, cell: ArmCell, place: Place, found: Found) -> PlannedRun:
    config = train_config(
        plan,
        DEFAULTS,
        selection=_selection(cell, place.seed, found),
        epochs=EPOCHS_WITHOUT_END,
        max_steps=plan.steps,
        seed=place.seed,
        save_model=True,
        **({"sft_coef": found.sft} if cell.arm == "dpo_sft" else {}),
    )
    name = f"Unalignment: {cell.label}, seed {place.seed}"
    dataset_id = None if cell.arm == "gold" else found.dataset_id
    return PlannedRun(place, "train", config, name, dataset_id)


def _selection(cell: ArmCell, seed: int, found: Found) -> dict[str, Any]:
    if cell.arm == "gold":
        return {"pairs": list(found.answered)}
    if cell.share is None:
        return {}
    rule = {
        "score_run": found.score_run,
        "measure": "ln_ches",
        "keep": "lowest",
        "fraction": cell.share / 100,
    }
    if cell.arm == "keep":
        return {"measures": [rule]}
    return {"random": {"same_size_as": {"measures": [rule]}, "seed": seed}}
