"""What training runs probe: pairs, response positions and free prompts."""

from collections.abc import Container
from typing import Annotated, Literal

from pydantic import Field

from chesboard.configs.base import Config, Ordinal


class Turn(Config):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


Word = Annotated[str, Field(min_length=1, max_length=100)]
GroupName = Annotated[str, Field(min_length=1)]


class PromptProbe(Config):
    """A free prompt, probed at the token that follows it."""

    prompt: str | list[Turn] = Field(
        min_length=1,
        description="Text, or chat messages; rendered by the model's chat template.",
    )
    watch: list[Word] = Field(
        default_factory=list,
        max_length=16,
        description="Words whose probability is recorded. Each must be one token of the model.",
    )
    name: str | None = Field(None, min_length=1, max_length=100, description="Label on the page.")


class LedgerPositions(Config):
    """Response positions, counted from 0, with a mass ledger of their own besides the fork's.

    "all": the first 32 positions of a response.
    """

    preferred: list[Annotated[int, Field(ge=0, le=131_071)]] | Literal["all"] = Field(
        default_factory=list, max_length=128, description="Positions in the preferred response."
    )
    dispreferred: list[Annotated[int, Field(ge=0, le=131_071)]] | Literal["all"] = Field(
        default_factory=list, max_length=128, description="Positions in the dispreferred response."
    )


class ProbesConfig(Config):
    """What a training run probes: pairs, named or chosen by a strategy, and free prompts."""

    pairs: list[Ordinal] | None = Field(
        None, max_length=64, description="Ordinals of the pairs to probe."
    )
    strategy: Literal["first", "random", "highest_ches"] = Field(
        "first", description="How pairs are chosen where none are named."
    )
    count: int = Field(4, ge=0, le=64, description="Number of pairs to choose.")
    prompts: list[PromptProbe] = Field(
        default_factory=list,
        max_length=16,
        description="Free prompts, each with the words to record.",
    )


def check_opposites(pairs: list[tuple[str, str]], groups: Container[str]) -> list[tuple[str, str]]:
    """The pairs of token groups.

    Raises:
        ValueError: one names no group, or a group as its own opposite.
    """
    for one, other in pairs:
        unknown = next((name for name in (one, other) if name not in groups), None)
        if unknown is not None:
            raise ValueError(f"“{unknown}” is no token group")
        if one == other:
            raise ValueError(f"“{one}” cannot be opposite to itself")
    return pairs
