"""What most configurations share: the model, and no fields beyond the known ones."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from chesboard.template_syntax import check_arguments, check_template

REVISION_PATTERN = r"^[\w+@-]+(?:[./][\w+@-]+)*$"
"""A branch (refs/pr/2), a tag (v1.0) or a commit; no "..", which would lead out of its address."""

DEVICE_PATTERN = r"^(auto|cpu|cuda(:\d+)?)$"


Ordinal = Annotated[int, Field(ge=0, lt=2**31)]
"""Of a pair in its dataset, from 0. PostgreSQL's integer, in which it is stored."""
Count = Annotated[int, Field(ge=1, lt=2**31)]


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelConfig(Config):
    """The model, its precision and device, and the limits on its input."""

    model: str = Field(
        "smollm2-135m-instruct",
        min_length=1,
        description="A name from GET /models: a folder, adapter or GGUF file in the models folder, "
        "'run:ID' for the result of a finished training run, or a hub name.",
    )
    revision: str | None = Field(
        None,
        max_length=200,
        pattern=REVISION_PATTERN,
        description="Of a model from the hub: a branch, a tag or a commit. Default: its main "
        "branch.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision of the forward pass. auto: float32 on a CPU, bfloat16 on a GPU. "
        "Training keeps float32 weights either way and computes in this precision. A CPU without "
        "bfloat16 instructions computes in float32; the run then carries a message.",
    )
    device: str = Field(
        "auto",
        pattern=DEVICE_PATTERN,
        description="auto: the GPU if there is one, else the CPU.",
    )
    max_prompt_tokens: int = Field(
        1024, ge=1, le=131_072, description="Longer prompts are truncated from the left."
    )
    max_response_tokens: int = Field(
        1024, ge=1, le=131_072, description="Longer responses are truncated from the right."
    )
    batch_tokens: int = Field(
        4096,
        ge=16,
        le=4_194_304,
        description="Token budget of one forward pass: pairs of similar length share a pass until "
        "it is full. Affects speed and memory, not the results.",
    )
    chat_template_kwargs: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=32,
        description="Arguments of the chat template, for example enable_thinking: false. The "
        "model's template says which it reads.",
    )
    chat_template: str | None = Field(
        None,
        min_length=1,
        max_length=200_000,
        description="A chat template (Jinja) in place of the model's own. Default: the model's.",
    )

    @field_validator("chat_template_kwargs")
    @classmethod
    def _usable_arguments(cls, arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
        check_arguments(arguments)
        return arguments

    @field_validator("chat_template")
    @classmethod
    def _readable_template(cls, template: str | None) -> str | None:
        if template is not None:
            check_template(template)
        return template
