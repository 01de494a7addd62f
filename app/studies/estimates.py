"""How long a study takes: before it begins from earlier runs, later from its own; and whether there
is memory for its runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from sqlalchemy import extract, func, select
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.runs.capacity import warning
from app.store.datasets import Dataset
from app.store.runs import WITHOUT_SCORES, Run, Worker
from app.store.studies import StudyRun
from app.studies.plans import MadeRun, PlannedRun
from chesboard.configs import CONFIGS

WITHOUT_MEMORY = frozenset({"seed", "selection", "probes"})
"""Settings that runs of a study differ in, and their memory does not depend on."""
EARLIER = 50
"""So many earlier runs are looked at."""


@dataclass(frozen=True, slots=True)
class Estimate:
    seconds: float | None
    basis: str


def count_workers(session: Session) -> int:
    """Workers that are alive; at least 1."""
    alive = select(func.count()).where(
        Worker.seen_at > func.clock_timestamp() - get_settings().lease
    )
    return max(1, session.scalar(alive) or 0)


def estimate(session: Session, model: str, planned: Sequence[PlannedRun], total: int) -> Estimate:
    """The duration of a plan's runs, by earlier training runs from the same model.

    total: runs that the plan comes to; those that cannot be planned yet count as the mean of the
    others.
    """
    if any(run.kind == "generate" for run in planned):
        return Estimate(None, "How long answers take depends on their length.")
    trains = [run for run in planned if run.kind == "train"]
    speeds = list(_seconds_a_pass(session, model))
    if not speeds:
        return Estimate(None, "No training run from this model has finished yet.")
    speed = median(speeds)
    passes = [_passes(run.config) for run in trains]
    mean = fmean(passes) if passes else fmean(_passes(run.config) for run in planned)
    seconds = mean * speed * total / count_workers(session)
    return Estimate(
        seconds,
        f"{len(speeds)} earlier training run{'s' if len(speeds) > 1 else ''} from this model took "
        f"{speed:.2g} s a pair and step, loading included.",
    )


def too_large(session: Session, dataset_id: int, planned: Sequence[PlannedRun]) -> list[str]:
    """What is to be said of runs that no worker may have room for, each sentence once."""
    found: dict[str, str] = {}
    for run in planned:
        config = CONFIGS[run.kind].model_validate(dict(run.config))
        of_memory = config.model_dump_json(exclude=set(WITHOUT_MEMORY))
        key = f"{run.kind} {run.dataset_id} {of_memory}"
        if key not in found:
            dataset = session.get_one(Dataset, run.dataset_id or dataset_id)
            sentence = warning(session, config, dataset) or ""
            name = WITHOUT_SCORES.get(run.kind, run.kind)
            found[key] = sentence and f"Its {name} runs: {sentence}"
    return [text for text in dict.fromkeys(found.values()) if text]


def _seconds_a_pass(session: Session, model: str) -> Sequence[float]:
    rows = session.execute(
        select(
            extract("epoch", Run.finished_at - Run.started_at),
            Run.progress_done,
            Run.config["batch_size"].as_integer(),
            Run.config["gradient_accumulation"].as_integer(),
        )
        .where(
            Run.kind == "train",
            Run.status == "succeeded",
            Run.config["model"].astext == model,
            Run.progress_unit == "steps",
            Run.progress_done > 0,
        )
        .order_by(Run.id.desc())
        .limit(EARLIER)
    )
    return [
        float(seconds) / (steps * (batch or 1) * (accumulation or 1))
        for seconds, steps, batch, accumulation in rows
    ]


def _passes(config: Mapping[str, Any]) -> float:
    """Pairs that a training run passes through the model."""
    batch = int(config.get("batch_size", 8)) * int(config.get("gradient_accumulation", 1))
    if steps := config.get("max_steps"):
        return float(steps * batch)
    pairs = len((config.get("selection") or {}).get("pairs") or []) or batch
    return float(config.get("epochs", 1) * pairs)


def time_left(session: Session, study_id: int, made: Sequence[MadeRun], total: int) -> float | None:
    """Seconds until the last run ends, by the study's own finished runs. None before the first."""
    mean = session.scalar(
        select(func.avg(extract("epoch", Run.finished_at - Run.started_at)))
        .join(StudyRun, StudyRun.run_id == Run.id)
        .where(
            StudyRun.study_id == study_id,
            Run.status == "succeeded",
            Run.finished_at > Run.started_at,
        )
    )
    left = total - sum(run.is_final for run in made)
    if mean is None or left <= 0:
        return None
    return float(mean) * left / count_workers(session)
