"""The remedy bench: arms that train on the same pairs with the same seeds and budget.

All arms watch the same pairs, trained on or not, and are judged by these: an arm that trains on
fewer pairs is not judged by fewer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from sqlalchemy.orm import Session

from app.runs.validation import check_reward_model
from app.store.lookup import require_dataset
from app.studies.kinds.arms import ARMS, PLAIN, Arm
from app.studies.kinds.bench_result import CRITERIA, bench_result
from app.studies.kinds.chosen import check_scores, other_pairs, select_pairs, spaced
from app.studies.kinds.sft_term import about_sft, of_objective, recommended_sft
from app.studies.plans import (
    EPOCHS_WITHOUT_END,
    OWN,
    PAPER,
    MadeRun,
    Place,
    Plan,
    PlannedRun,
    Wanted,
    check_settings,
    scoring,
    succeeded,
    train_config,
    unique,
)
from app.studies.results import Result
from chesboard.configs import ObjectiveConfig, Selection
from chesboard.configs.base import Ordinal

MAX_WATCHED = 64

DEFAULTS: Mapping[str, Any] = {
    **PAPER,
    "objective": "dpo",
    "learning_rate": 1e-6,
    "batch_size": 8,
    "probe_every": 5,
}


class RemedyBenchPlan(Plan):
    own = ("objective", "probes", "measure_displacement", "sft_coef", "refresh_filter")

    kind: Literal["remedy_bench"] = "remedy_bench"
    selection: Selection = Field(
        default_factory=lambda: Selection(limit=256),
        description="The pairs that all arms train on, as far as they keep them.",
    )
    pairs: list[Ordinal] | None = Field(
        None, description="Those pairs themselves. Default: what the selection matches."
    )
    arms: list[str] = Field(
        ["dpo", "dpo_sft", "dpop", "ipo", "simpo", "keep_15", "random_15"],
        min_length=1,
        description=f"Names of arms: {', '.join(ARMS)}. Plain dpo is always among them.",
    )
    arm_settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Settings of single arms, for example {dpop: {dpop_lambda: 50}}.",
    )
    reward_model: str | None = Field(
        None,
        min_length=1,
        max_length=500,
        validate_default=True,
        description="Of the arm fdpo: a reward model, or a classifier with two labels, in the "
        "models folder. Its other settings: arm_settings, {fdpo: {refresh_filter: {…}}}.",
    )
    reward_label: str | None = Field(
        None,
        max_length=200,
        description="Of a classifier: the label whose log-odds are the reward.",
    )
    steps: int = Field(50, ge=1, le=100_000, description="Optimizer steps of each run.")
    watched: list[Ordinal] | None = Field(
        None, max_length=MAX_WATCHED, description="Watched pairs among those trained on."
    )
    held_out: list[Ordinal] | None = Field(
        None, max_length=MAX_WATCHED, description="Watched pairs that no arm trains on."
    )
    watch: int = Field(
        24, ge=1, le=MAX_WATCHED, description="How many of the trained pairs to watch."
    )
    watch_others: int = Field(
        8, ge=0, le=MAX_WATCHED, description="How many other pairs to watch: the spillover."
    )
    criterion: Literal["preferred", "margin", "ranking", "displaced", "catastrophic"] = Field(
        "preferred", description="What makes the best arm."
    )

    @field_validator("arms")
    @classmethod
    def _known(cls, arms: list[str]) -> list[str]:
        if unknown := [name for name in arms if name not in ARMS]:
            raise ValueError(f"there is no arm {unknown[0]!r}; there are {', '.join(ARMS)}")
        return unique([PLAIN, *arms])

    @field_validator("reward_model")
    @classmethod
    def _named(cls, name: str | None, known: ValidationInfo) -> str | None:
        if name is None and any(ARMS[arm].refreshes for arm in known.data.get("arms", ())):
            raise ValueError("the arm fdpo needs a reward model: name one of the models folder")
        return name

    @model_validator(mode="after")
    def _settings(self) -> Self:
        for name in self.arm_settings:
            if name not in ARMS:
                raise ValueError(f"arm_settings: there is no arm {name!r}")
            try:
                self._check_arm(name)
            except ValueError as error:
                raise ValueError(f"arm_settings.{name}: {error}") from None
        if self.watch + self.watch_others > MAX_WATCHED:
            raise ValueError(f"watch and watch_others may be {MAX_WATCHED} together")
        return self

    def _check_arm(self, name: str) -> None:
        given = self.arm_settings[name].get("refresh_filter")
        if ARMS[name].refreshes and given is not None:
            if not isinstance(given, dict):
                raise ValueError("refresh_filter is an object of settings")
            if taken := given.keys() & {"reward_model", "label"}:
                raise ValueError(
                    f"refresh_filter.{min(taken)} is set by the plan's reward_model and "
                    "reward_label"
                )
        own = {*OWN, *self.own} - {"sft_coef", "refresh_filter"}
        check_settings(self.settings_of(name), own - ARMS[name].settings.keys())

    def settings_of(self, name: str) -> dict[str, Any]:
        """An arm's own settings, those that the plan gives it among them."""
        settings = {**ARMS[name].settings, **self.arm_settings.get(name, {})}
        if ARMS[name].refreshes:
            reward = {"reward_model": self.reward_model or "none", "label": self.reward_label}
            settings["refresh_filter"] = {**(settings.get("refresh_filter") or {}), **reward}
        return settings


class RemedyBench:
    name = "remedy_bench"
    label = "Remedy bench"
    about = (
        "Trains the same pairs by different remedies with the same seeds and budget, and says "
        "whether any differs from plain DPO beyond the spread of the seeds."
    )
    plan = RemedyBenchPlan
    grows = ("seeds", "arms")

    def complete(self, session: Session, plan: RemedyBenchPlan) -> RemedyBenchPlan:
        """Fixes the pairs that are trained on and those that are watched."""
        dataset = require_dataset(session, plan.dataset_id)
        pairs = plan.pairs or select_pairs(session, dataset, plan.selection)
        if "odpo" in plan.arms:
            settings = plan.arm_settings.get("odpo", {})
            check_scores(session, dataset, pairs, ObjectiveConfig(**of_objective(settings)))
        if any(ARMS[name].refreshes for name in plan.arms):
            assert plan.reward_model is not None
            check_reward_model(
                plan.reward_model, plan.reward_label, ("reward_model", "reward_label")
            )
        watched = plan.watched or spaced(pairs, plan.watch)
        others = plan.held_out
        if others is None:
            others = other_pairs(session, dataset, pairs, plan.watch_others)
        return plan.model_copy(update={"pairs": pairs, "watched": watched, "held_out": others})

    def wanted(self, session: Session, plan: RemedyBenchPlan, made: Sequence[MadeRun]) -> Wanted:
        arms = [ARMS[name] for name in plan.arms]
        total = len(arms) * len(plan.seeds)
        if not any(arm.needs_scores for arm in arms):
            return Wanted(bench_runs(plan, None, None), total)
        scores = scoring(plan, "Scores for the bench", {"pairs": plan.pairs})
        scored = succeeded(made, "score")
        if scored is None:
            # What needs no scores is trained meanwhile.
            return Wanted([scores, *bench_runs(plan, None, None)], total + 1, is_all=False)
        sft, messages = None, []
        if any(arm.forecast_sft for arm in arms):
            sft = recommended_sft(session, scored.id, plan.config)
            messages = about_sft(sft)
        return Wanted([scores, *bench_runs(plan, scored.id, sft)], total + 1, messages=messages)

    def result(self, session: Session, plan: RemedyBenchPlan, made: Sequence[MadeRun]) -> Result:
        return bench_result(
            session,
            made,
            plan.arms,
            watched=plan.watched or [],
            held_out=plan.held_out or [],
            criterion=CRITERIA[plan.criterion],
        )


def bench_runs(plan: RemedyBenchPlan, scored: int | None, sft: float | None) -> list[PlannedRun]:
    """Those that can be planned: without a score run, those of arms that need none."""
    runs = []
    for seed in plan.seeds:
        for name in plan.arms:
            arm = ARMS[name]
            if arm.needs_scores and scored is None:
                continue
            settings = plan.settings_of(name)
            if arm.forecast_sft:
                settings.setdefault("sft_coef", sft or 0.0)
            if arm.weigh_by is not None:
                weights = {"score_run": scored, "measure": arm.weigh_by}
                settings.setdefault("pair_weights", weights)
            config = train_config(
                plan,
                DEFAULTS,
                **settings,
                selection=_selection(plan, arm, scored, seed),
                probes={"pairs": [*(plan.watched or []), *(plan.held_out or [])]},
                epochs=EPOCHS_WITHOUT_END,
                max_steps=plan.steps,
                seed=seed,
                save_model=False,
            )
            place = Place(name, seed, "train")
            runs.append(PlannedRun(place, "train", config, f"Bench: {arm.label}, seed {seed}"))
    return runs


def _selection(plan: RemedyBenchPlan, arm: Arm, scored: int | None, seed: int) -> dict[str, Any]:
    selection: dict[str, Any] = {"pairs": plan.pairs}
    if arm.keep is not None:
        rule = {"score_run": scored, "measure": "ln_ches", "keep": "lowest", "fraction": arm.keep}
        selection["measures"] = [rule]
    if arm.random is not None:
        selection["random"] = {"fraction": arm.random, "seed": seed}
    return selection
