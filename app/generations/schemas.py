"""JSON shapes of generated answers."""

from pydantic import BaseModel, Field

from chesboard.pairs import Prompt


class GenerationOut(BaseModel):
    """One answer."""

    sample: int = Field(description="Number of the answer among those to its prompt, from 0.")
    text: str = Field(description="Without the end token.")
    tokens: int = Field(description="End token included.")
    ended: bool = Field(description="False: cut at the limit, answer_tokens.")
    logprob: float | None = Field(
        description="Sum over the tokens in nats, at temperature 1 over the whole vocabulary. "
        "Null: not finite."
    )


class PromptGenerations(BaseModel):
    """A prompt and those of its answers that match."""

    pair: int = Field(description="The first of the run's pairs with this prompt.")
    prompt: Prompt = Field(description="As the run was given it; long ones are cut.")
    answers: list[GenerationOut]


class GenerationPage(BaseModel):
    total: int = Field(description="Prompts with an answer that matches.")
    matching: int = Field(description="Answers that match.")
    answers: int = Field(description="All answers of the run so far.")
    ended: int = Field(description="Those of all that ended with an end token.")
    tokens: int = Field(description="Of all answers together.")
    items: list[PromptGenerations]
