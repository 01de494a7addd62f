"""Which score run foretells a training run: its own, or the newest that read the same."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import InvalidInputError
from app.store.lookup import find_run, there_is_no
from app.store.runs import Run

ALIKE = ("model", "max_prompt_tokens", "max_response_tokens")
"""Settings that a score run must share: they decide which tokens are read, and by what."""


def score_run_of(session: Session, run: Run, wanted: int | None = None) -> Run | None:
    """The wanted score run; by default the run's own `forecast_run`, while it is there and fits,
    else the newest that fits.

    Raises:
        InvalidInputError: the wanted one cannot foretell this run.
    """
    if wanted is not None:
        if message := why_unfit(session, wanted, run.dataset_id, run.config):
            raise InvalidInputError(message, [{"field": "score_run", "message": message}])
        return find_run(session, wanted)
    own = run.config.get("forecast_run")
    if own is not None and why_unfit(session, own, run.dataset_id, run.config) is None:
        return find_run(session, own)
    return _newest(session, run)


def why_unfit(
    session: Session, score_run: int, dataset_id: int | None, config: Mapping[str, Any]
) -> str | None:
    """Why a run cannot foretell training on a dataset by this configuration; None: it can."""
    scored = find_run(session, score_run)
    if scored is None:
        return there_is_no("run", score_run)
    if scored.kind != "score":
        return f"Run {score_run} is not a score run."
    if scored.dataset_id != dataset_id:
        return f"Run {score_run} scored dataset {scored.dataset_id}, not {dataset_id}."
    for name in ALIKE:
        if scored.config[name] != config[name]:
            return (
                f"Run {score_run} has {name} {scored.config[name]}, and training has "
                f"{config[name]}: its scores are not about what is trained."
            )
    return None


def _newest(session: Session, run: Run) -> Run | None:
    alike = [Run.config[name].astext == str(run.config[name]) for name in ALIKE]
    return session.scalar(
        select(Run)
        .where(
            Run.dataset_id == run.dataset_id,
            Run.kind == "score",
            Run.status == "succeeded",
            *alike,
        )
        .order_by(Run.id.desc())
        .limit(1)
    )
