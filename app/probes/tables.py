"""Watched pairs of a training run and what was seen of them at each recorded step."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class Probe(Base):
    __tablename__ = "probes"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    prompt: Mapped[str] = mapped_column(Text, doc="The prompt as the model reads it.")
    preferred_tokens: Mapped[list[str]] = mapped_column(JSONB, doc="Texts, end token included.")
    dispreferred_tokens: Mapped[list[str]] = mapped_column(JSONB)
    fork_position: Mapped[int] = mapped_column(
        doc="Index of the first response token that differs."
    )
    groups: Mapped[dict[str, list[str]]] = mapped_column(JSONB, doc="Token groups: name → tokens.")
    watched: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB,
        doc="Tokens whose probability at the fork is kept at every step: "
        "{token_id, token, initial, predicted}.",
    )


class ProbeStep(Base):
    """One probe at one step. Log-probabilities in nats, probabilities at the fork."""

    __tablename__ = "probe_steps"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "pair"], ["probes.run_id", "probes.pair"], ondelete="CASCADE"
        ),
        Index("ix_probe_steps_run_id_revision", "run_id", "revision"),
    )

    run_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)
    preferred_logprobs: Mapped[list[float]] = mapped_column(
        ARRAY(DOUBLE_PRECISION), doc="One a token of y+."
    )
    dispreferred_logprobs: Mapped[list[float]] = mapped_column(ARRAY(DOUBLE_PRECISION))
    preferred_prob: Mapped[float]
    dispreferred_prob: Mapped[float]
    other_prob: Mapped[float] = mapped_column(doc="1 - preferred - dispreferred.")
    group_probs: Mapped[list[float]] = mapped_column(
        ARRAY(DOUBLE_PRECISION), doc="Summed over each token group, in the probe's order."
    )
    watched_probs: Mapped[list[float]] = mapped_column(
        ARRAY(REAL), doc="In the order of the probe's watched tokens."
    )
    gainers: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB, doc="Top gainers since step 0: {token_id, token, initial, final, change, predicted}."
    )
    losers: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    rest_change: Mapped[float] = mapped_column(
        doc="Change of all tokens that are neither listed as gainer nor as loser."
    )
    moved_mass: Mapped[float] = mapped_column(doc="Half the sum of absolute changes.")
    recorded_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
