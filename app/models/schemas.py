"""Models as the API and the pages show them."""

from typing import Literal

from pydantic import BaseModel, Field


class ModelOut(BaseModel):
    name: str = Field(description="What a run's config.model takes.")
    kind: Literal["folder", "gguf", "run"]
    label: str = Field(description="For people; no path.")
    bytes: int = Field(description="Size of the weights on disk.")


class ModelList(BaseModel):
    total: int
    items: list[ModelOut]
