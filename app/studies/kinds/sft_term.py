"""The coefficient of the SFT term that the forecast of a score run recommends."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.forecast.queries import forecast
from app.store.lookup import require_run
from chesboard.configs import ObjectiveConfig


def of_objective(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a training run's settings that its loss has."""
    return {name: settings[name] for name in ObjectiveConfig.model_fields if name in settings}


def recommended_sft(session: Session, score_run: int, settings: Mapping[str, Any]) -> float | None:
    """At most 5 % of the scored pairs fall at the first step with it, under a training run's
    settings. None where nothing can be forecast from the scores."""
    config = ObjectiveConfig(**of_objective(settings))
    found = forecast(session, require_run(session, score_run), config)
    curve = next((one for one in found.remedies if one.remedy == "sft_coef"), None)
    return curve.recommended if curve is not None and found.pairs else None


def about_sft(sft: float | None) -> list[str]:
    """What to say of a recommendation."""
    if sft is None:
        return ["Nothing can be forecast from the scores, so the arm with an SFT term has none."]
    if sft == 0:
        return [
            "The forecast recommends sft_coef 0: hardly a pair falls at the first step. That arm "
            "is plain dpo; arm_settings can give it a coefficient."
        ]
    return [f"The forecast recommends sft_coef {sft:g}."]
