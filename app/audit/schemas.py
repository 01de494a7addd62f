"""JSON schemas of the audit log."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class AuditEventOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    action: str = Field(description="For example run.create, dataset.export, login.refused.")
    actor: str = Field(description="The token's name; 'local' without tokens.")
    role: str
    address: str
    subject: str = Field(description="The resource, for example 'run 3'.")
    details: dict[str, Any]


class AuditPage(BaseModel):
    total: int
    items: list[AuditEventOut]
