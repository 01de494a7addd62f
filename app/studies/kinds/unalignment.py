"""Unintentional unalignment: Figure 3 of arXiv 2410.08847.

A model answers prompts twice, a judge says which answers refuse, and the two answers of a prompt
make a pair that prefers refusal. Arms train on these pairs, and each trained model answers the
prompts again: those that it was trained on, and others.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from app.core.errors import InvalidInputError
from app.judgments.schemas import PairsRequest
from app.runs.validation import check_judge, check_pairs
from app.store.lookup import require_dataset
from app.studies.kinds.chosen import answered_pairs, distinct_prompts, select_pairs
from app.studies.kinds.sft_term import about_sft, recommended_sft
from app.studies.kinds.unalignment_plan import UnalignmentPlan
from app.studies.kinds.unalignment_result import unalignment_result
from app.studies.kinds.unalignment_runs import Found, cells_of, run_count, unalignment_runs
from app.studies.plans import MAX_NAME, MadeRun, PlannedPairs, Wanted, succeeded
from app.studies.results import Result

FEWEST = 3
"""Prompts: two to train on, one to test on."""


class Unalignment:
    name = "unalignment"
    label = "Unintentional unalignment (Figure 3)"
    about = (
        "Makes pairs of a model's own answers by whether they refuse, trains on them by different "
        "remedies, and counts how many prompts each trained model still refuses."
    )
    plan = UnalignmentPlan
    grows = ("seeds", "arms", "keep")

    def complete(self, session: Session, plan: UnalignmentPlan) -> UnalignmentPlan:
        """Draws the prompts, and divides them."""
        dataset = require_dataset(session, plan.dataset_id)
        check_judge(plan.judge_config(), "judge")
        check_pairs(session, dataset, plan.train, "train")
        check_pairs(session, dataset, plan.test, "test")
        if plan.train is not None and plan.test is not None:
            if both := set(plan.train) & set(plan.test):
                raise _invalid("test", f"Pair {min(both)} is among the train prompts too.")
            return plan
        pairs = select_pairs(session, dataset, plan.selection)
        prompts = distinct_prompts(session, dataset, pairs, plan.split_seed)
        if len(prompts) < FEWEST:
            raise _invalid(
                "selection",
                f"The selection has {len(prompts)} prompts; it takes {FEWEST} at least.",
            )
        train, test = divide(prompts, plan.train_prompts, plan.test_prompts)
        return plan.model_copy(update={"train": train, "test": test})

    def wanted(self, session: Session, plan: UnalignmentPlan, made: Sequence[MadeRun]) -> Wanted:
        judged, scored = succeeded(made, "verdicts"), succeeded(made, "score")
        messages, total = _about(plan), run_count(plan)
        dataset_id = judged.dataset_id if judged is not None else None
        found = Found(
            dataset_id,
            tuple(answered_pairs(session, dataset_id)) if dataset_id is not None else (),
            scored.id if scored is not None else None,
            plan.sft_coef,
        )
        if scored is not None and "dpo_sft" in plan.arms and plan.sft_coef is None:
            sft = recommended_sft(session, scored.id, plan.config)
            found, messages = replace(found, sft=sft or 0.0), [*messages, *about_sft(sft)]
        runs = unalignment_runs(plan, made, found)
        pairs = None
        if judged is not None and dataset_id is None:
            name = f"Answers of {plan.model} by refusal"[:MAX_NAME]
            request = PairsRequest(name=name, ties=plan.ties, seed=plan.split_seed)
            pairs = PlannedPairs(judged.id, request)
        return Wanted(runs, total, len(runs) == total, messages, pairs)

    def result(self, session: Session, plan: UnalignmentPlan, made: Sequence[MadeRun]) -> Result:
        return unalignment_result(
            session, made, cells_of(plan), train=plan.train or [], test=plan.test or []
        )


def divide(prompts: Sequence[int], train: int, test: int) -> tuple[list[int], list[int]]:
    """The first `test` prompts to test, as many as `train` of the others to train, both
    ascending; where there are too few, in the same proportion, two to train and one to test at
    least."""
    if len(prompts) < train + test:
        share = round(len(prompts) * test / (train + test))
        test = min(max(1, share), len(prompts) - 2)
        train = len(prompts) - test
    return sorted(prompts[test : test + train]), sorted(prompts[:test])


def _about(plan: UnalignmentPlan) -> list[str]:
    """What to know before anything is queued."""
    train, test = plan.train or [], plan.test or []
    told = []
    if len(train) < plan.train_prompts:
        told.append(
            f"The selection has {len(train) + len(test)} prompts: {len(train)} to train on, "
            f"{len(test)} to test on."
        )
    models = (len(cells_of(plan)) - 1) * len(plan.seeds)
    if not plan.config.get("lora"):
        told.append(
            f"{models} trained models are kept, as they answer the prompts, each as large as the "
            "model itself. The study's page removes them in the end, at your request; with "
            "config.lora they are small."
        )
    return told


def _invalid(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(message, [{"field": field, "message": message}])
