"""JSON shapes of alarms and their rules."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.store.alarms import AlarmKind
from app.store.lookup import Id

LABELS: dict[AlarmKind, str] = {
    "displaced_fraction": "Displaced fraction over",
    "opposite_lead": "An opposite group takes the lead",
    "preferred_logprob": "Preferred log-probability under",
    "loss_not_finite": "Loss not finite",
    "run_lost": "Run lost",
    "run_failed": "Run failed",
}
"""What each rule looks for, in words."""
WITH_THRESHOLD: dict[AlarmKind, str] = {"displaced_fraction": "", "preferred_logprob": "nats"}
"""The kinds with a threshold, and its unit."""


class NewRule(BaseModel):
    model_config = ConfigDict(extra="forbid")

    run_id: Id | None = Field(None, description="Default: every training run.")
    kind: AlarmKind
    threshold: float | None = Field(
        None,
        allow_inf_nan=False,
        description="displaced_fraction: raised over it, 0 to 1. preferred_logprob: raised under "
        "it, in nats, mean over a batch. Others have none.",
    )

    @model_validator(mode="after")
    def _has_its_threshold(self) -> Self:
        if (self.threshold is not None) != (self.kind in WITH_THRESHOLD):
            needs = "needs a" if self.kind in WITH_THRESHOLD else "has no"
            raise ValueError(f"the rule {self.kind} {needs} threshold")
        if self.kind == "displaced_fraction" and not 0 <= (self.threshold or 0) < 1:
            raise ValueError("the threshold of displaced_fraction is from 0 to below 1")
        return self


class RuleOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    run_id: int | None
    kind: AlarmKind
    threshold: float | None
    created_at: datetime


class RuleList(BaseModel):
    items: list[RuleOut]


class AlarmOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    run_id: int
    run_name: str
    kind: AlarmKind
    message: str
    step: int | None
    raised_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class AlarmList(BaseModel):
    total: int
    items: list[AlarmOut]
