"""JSON shapes of models."""

from typing import Literal

from pydantic import BaseModel, Field


class ModelOut(BaseModel):
    name: str = Field(description="Value for a run's config.model.")
    kind: Literal["folder", "gguf", "adapter", "run"] = Field(
        description="A folder of safetensors, a GGUF file, an adapter that is loaded onto its "
        "base model, or the result of a training run."
    )
    label: str = Field(description="Display name.")
    bytes: int = Field(description="Size of the weights on disk.")
    base: str | None = Field(
        None,
        description="Of an adapter: its base model, by its name here or, where it is not here, as "
        "the adapter names it.",
    )
    problem: str | None = Field(
        None, description="Why no run can use it and what to do; null where it can be used."
    )


class ModelList(BaseModel):
    total: int
    items: list[ModelOut]
