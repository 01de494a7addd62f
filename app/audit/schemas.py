"""The audit log as the API and its page show it."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class AuditEventOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    action: str = Field(description="For example run.create, dataset.export, login.refused.")
    actor: str = Field(description="The name of the token; 'local' where no token is set.")
    role: str
    address: str
    subject: str = Field(description="What it was done to, for example 'run 3'.")
    details: dict[str, Any]


class AuditPage(BaseModel):
    total: int
    items: list[AuditEventOut]
