"""The API of forecasts."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query

from app.core.errors import ErrorItem, InvalidInputError
from app.forecast.checking import check_forecast
from app.forecast.queries import forecast
from app.forecast.schemas import Forecast, ForecastCheck, ForecastQuery, Incentives
from app.scores.queries import require_scores
from app.store.lookup import require_run
from app.web.session import SessionDep
from chesboard.configs import ObjectiveConfig
from chesboard.configs.objective import FORMULAS, notices
from chesboard.forecast import why_inexact
from chesboard.incentives import describe_incentives, push_ratio

router = APIRouter(tags=["forecast"])


@router.get("/runs/{run_id}/forecast")
def get_forecast(
    session: SessionDep, run_id: int, asked: Annotated[ForecastQuery, Query()]
) -> Forecast | ForecastCheck:
    """Of a score run: which preferred responses fall at the first step of an objective, and the
    smallest coefficients that prevent it. Of a training run: the forecast of its own objective
    against what it measured."""
    run = require_run(session, run_id)
    objective = asked.model_dump(include=asked.model_fields_set - {"score_run"})
    if run.kind == "train":
        _refuse(objective, f"Run {run_id} is a training run: its forecast is of its own objective.")
        return check_forecast(session, run, asked.score_run)
    scored = require_scores(session, run_id)
    if asked.score_run is not None:
        _refuse(["score_run"], f"Run {run_id} has scores of its own.")
    config = ObjectiveConfig(**objective)
    if message := why_inexact(config):
        _refuse(["ld_alpha"], message)
    return forecast(session, scored, config)


@router.get("/objectives/incentives")
def get_incentives(asked: Annotated[ObjectiveConfig, Query()]) -> Incentives:
    """How hard an objective pushes the preferred response up against the other one down, at the
    start, and what to know of its settings."""
    return Incentives(
        formula=FORMULAS[asked.objective],
        ratio=push_ratio(asked),
        sentence=describe_incentives(asked),
        notices=notices(asked),
    )


def _refuse(names: Iterable[str], message: str) -> None:
    """Refuse parameters that would be ignored: the answer would be about something else."""
    if errors := [ErrorItem(field=name, message=message) for name in names]:
        raise InvalidInputError(message, errors)
