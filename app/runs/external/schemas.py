"""JSON shapes of the calls by which a trainer elsewhere records its run."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.runs.schemas import RunOut
from chesboard.record_json import MAX_MESSAGE

Step = Annotated[int, Field(ge=0, lt=2**31)]
Attempt = Annotated[int, Field(ge=1, lt=2**31)]


class ExternalRunOut(RunOut):
    """The answer to the one who made an external run: the run, and what its trainer goes by."""

    url: str = Field(description="Address of the run's page.")
    attempt: int = Field(description="Every later call names it.")
    lease_seconds: float = Field(
        description="A run of which nothing is heard for so long is shown as lost."
    )


class NewAttempt(BaseModel):
    """The trainer goes on from a checkpoint."""

    model_config = ConfigDict(extra="forbid")

    resumed_from_step: Step = Field(description="What was recorded after this step is deleted.")


class AttemptOut(BaseModel):
    attempt: int
    revision: int
    recorded_through: int | None
    lease_seconds: float


class Received(BaseModel):
    """The answer to a batch of records, and to a heartbeat, which is an empty one."""

    revision: int
    recorded_through: int | None = Field(description="The last step recorded; null: none yet.")
    cancel_requested: bool = Field(description="Someone asked for the training to be stopped.")
    lease_seconds: float


class RunError(BaseModel):
    model_config = ConfigDict(extra="forbid")

    message: str = Field(max_length=10_000)
    hint: str | None = Field(None, max_length=10_000)
    traceback: str | None = Field(None, max_length=200_000)


class Ending(BaseModel):
    """How the training ended."""

    model_config = ConfigDict(extra="forbid")

    attempt: Attempt
    status: Literal["succeeded", "failed", "cancelled"]
    summary: dict[str, JsonValue] | None = Field(
        None, description="Results, for example final_loss; 256 KiB at most."
    )
    error: RunError | None = Field(None, description="Of a failed run.")


def batch_schema() -> dict[str, Any]:
    """The body of `POST /runs/{id}/records`, for OpenAPI: it is read without Pydantic."""
    return {
        "type": "object",
        "required": ["attempt", "records"],
        "additionalProperties": False,
        "properties": {
            "attempt": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
            "records": {
                "type": "array",
                "maxItems": 1000,
                "items": {
                    "type": "object",
                    "required": ["kind"],
                    "properties": {"kind": {"type": "string"}},
                },
                "description": "Each {kind, …}: metric, probe, probe_step, position, "
                "position_step, answer, reference or final, with the fields of the record in "
                "chesboard.records. Empty: a heartbeat.",
            },
            "messages": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": MAX_MESSAGE},
                "description": "What those who look at the run's page should know, such as why a "
                "pair is not watched. One that the run has already is not added again.",
            },
        },
    }
