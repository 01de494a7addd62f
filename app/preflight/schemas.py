"""JSON shapes of pre-flights."""

from pydantic import BaseModel, Field

from app.displacement.schemas import MeasuredRun
from chesboard.pairs import Prompt


class ForkToken(BaseModel):
    """A token at the pair's fork, and the first-order change of its probability."""

    token_id: int
    token: str
    initial: float
    change: float


class PreflightRow(BaseModel):
    """What the first step on this pair alone would do to it, to first order, in nats."""

    pair: int
    preferred_change: float = Field(description="Of log p(y+).")
    dispreferred_change: float = Field(description="Of log p(y-).")
    falls: bool = Field(description="Whether the preferred response falls.")
    preferred_logprob: float = Field(description="Before the step.")
    dispreferred_logprob: float
    raised_by: int | None = Field(
        description="The other pair whose step raises this preferred response most; null: none."
    )
    lowered_by: int | None = Field(description="The one whose step lowers it most; null: none.")
    head_own: float | None = Field(
        description="Through the output head: what raising y+ gives it, squared norm of its "
        "gradient. Null where the logits are no linear map of the hidden states."
    )
    head_pull: float | None = Field(
        description="What lowering y- takes from y+ through the head: sum of the interference map."
    )
    measured_preferred_change: float | None = Field(
        description="What the training run `train_run` did to log p(y+); null: not measured."
    )
    measured_dispreferred_change: float | None


class PreflightItem(PreflightRow):
    """A row with the beginning of its texts and the tokens that gain most at its fork."""

    prompt: Prompt
    preferred: str
    dispreferred: str
    gainers: list[ForkToken] = Field(description="The three that gain most.")


class Influence(BaseModel):
    """Entry [i][j] of a matrix: the change of pair j by the step on pair i, in nats.

    Only pairs that are finished have a row; columns are the pairs of the run.
    """

    rows: list[int] = Field(description="Pairs whose steps are finished.")
    columns: list[int]
    preferred: list[list[float]] = Field(description="Changes of log p(y+).")
    dispreferred: list[list[float]]
    order: list[int] = Field(
        description="The pairs in an order in which those stand together that act alike "
        "(average linkage). Pairs without a row come last."
    )


class PreflightList(BaseModel):
    total: int = Field(description="Pairs that the run was given.")
    finished: int
    falling: int = Field(description="Finished pairs whose preferred response falls.")
    items: list[PreflightItem] = Field(description="Those that fall furthest first.")
    influence: Influence
    train_run: int | None = Field(
        description="The training run that predictions are set beside; null: none trained on any "
        "of these pairs from the same model."
    )
    train_runs: list[MeasuredRun] = Field(
        description="All training runs from the same model on any of these pairs, newest first."
    )
    spearman: float | None = Field(
        description="Rank correlation of predicted and measured changes of log p(y+)."
    )
    same_sign: int = Field(description="Pairs whose measured change has the predicted sign.")
    compared: int = Field(description="Pairs with both.")


class InterferenceOut(BaseModel):
    """map[i][j]: how much a step that lowers token j of y- lowers token i of y+ through the head.

    Squared gradient norms; `pulls` are the column sums over all tokens of y+.
    """

    map: list[list[float]]
    pulls: list[float]
    is_clipped: bool = Field(description="Whether a response has more tokens than are shown.")


class PreflightPairOut(PreflightRow):
    """Everything about one pair."""

    prompt: Prompt
    preferred: str
    dispreferred: str
    gainers: list[ForkToken] = Field(description="Largest change first.")
    losers: list[ForkToken]
    rest_change: float = Field(description="Sum over all tokens that are not listed.")
    fork_position: int
    preferred_tokens: list[str] = Field(description="The first 256 at most.")
    dispreferred_tokens: list[str]
    preferred_count: int = Field(description="Tokens of y+, its end token counted.")
    dispreferred_count: int
    interference: InterferenceOut | None
