"""The table of pre-flights: what the first step on each pair of a run would do."""

from typing import Any

from sqlalchemy import REAL, Double, ForeignKey, Integer
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base


class PreflightPair(Base):
    """One pair's step alone, to first order; columns as in `chesboard.records.PreflightRecord`."""

    __tablename__ = "preflight_pairs"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    preferred_logprob: Mapped[float]
    dispreferred_logprob: Mapped[float]
    preferred_change: Mapped[float] = mapped_column(doc="Predicted, in nats.")
    dispreferred_change: Mapped[float]
    gainers: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB, doc="At the fork: {token_id, token, initial, change} in probability."
    )
    losers: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    rest_change: Mapped[float]
    pairs: Mapped[list[int]] = mapped_column(
        ARRAY(Integer), doc="Ordinals of the pairs that the influence arrays are about."
    )
    influence_preferred: Mapped[list[float]] = mapped_column(ARRAY(Double))
    influence_dispreferred: Mapped[list[float]] = mapped_column(ARRAY(Double))
    fork_position: Mapped[int]
    preferred_tokens: Mapped[list[str]] = mapped_column(JSONB, doc="Texts of the shown tokens.")
    dispreferred_tokens: Mapped[list[str]] = mapped_column(JSONB)
    preferred_count: Mapped[int] = mapped_column(doc="Tokens of y+, shown or not.")
    dispreferred_count: Mapped[int]
    interference: Mapped[list[float] | None] = mapped_column(
        ARRAY(REAL), doc="Row by row: shown tokens of y+ by those of y-. Null: no linear head."
    )
    pulls: Mapped[list[float] | None] = mapped_column(
        ARRAY(Double), doc="Column sums of the map, over all tokens of y+."
    )
    own: Mapped[float | None] = mapped_column(doc="Squared norm of y+'s gradient at the head.")
    pull: Mapped[float | None] = mapped_column(doc="Sum of the whole map.")
