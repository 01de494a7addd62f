"""JSON shapes of models."""

from typing import Literal

from pydantic import BaseModel, Field


class ModelOut(BaseModel):
    name: str = Field(description="Value for a run's config.model.")
    kind: Literal["folder", "gguf", "run"]
    label: str = Field(description="Display name.")
    bytes: int = Field(description="Size of the weights on disk.")


class ModelList(BaseModel):
    total: int
    items: list[ModelOut]
