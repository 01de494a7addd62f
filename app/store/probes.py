"""Tables of probes: watched pairs and prompts, their recorded steps, positions and answers."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base


class Probe(Base):
    """The constant part of a watched pair or prompt."""

    __tablename__ = "probes"
    __table_args__ = (CheckConstraint("kind IN ('pair', 'prompt')", name="kind"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    prompt: Mapped[str] = mapped_column(Text, doc="The prompt as the model reads it.")
    preferred_tokens: Mapped[list[str]] = mapped_column(JSONB, doc="Texts, end token included.")
    dispreferred_tokens: Mapped[list[str]] = mapped_column(JSONB)
    fork_position: Mapped[int] = mapped_column(
        doc="Index of the first response token that differs."
    )
    kind: Mapped[str] = mapped_column(
        Text,
        server_default="pair",
        doc="'pair', or 'prompt': a prompt of the user's own, whose `pair` is -1, -2, ... and "
        "whose responses are empty.",
    )
    name: Mapped[str | None] = mapped_column(Text, doc="The user's name for a prompt.")
    groups: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB,
        doc="Token groups in order: {name, tokens}. A list: JSONB does not keep the order of keys.",
    )
    watched: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB,
        doc="Tokens whose probability at the fork is recorded at every step: "
        "{token_id, token, initial, predicted}.",
    )
    predicted: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB,
        server_default=text("'[]'"),
        doc="The tokens predicted to gain most at the fork, largest prediction first: "
        "{token_id, token, predicted}.",
    )
    positions: Mapped[dict[str, list[int]]] = mapped_column(
        JSONB,
        server_default=text("""'{"preferred": [], "dispreferred": []}'"""),
        doc="Response positions that have a ledger, the fork among them.",
    )


class ProbeStep(Base):
    """One probe at one step. Log-probabilities in nats, probabilities at the fork."""

    __tablename__ = "probe_steps"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "pair"], ["probes.run_id", "probes.pair"], ondelete="CASCADE"
        ),
        Index("ix_probe_steps_run_id_revision", "run_id", "revision"),
        # Covering indexes: curves and bands over a long run are read by index-only scans, since the
        # rows are wide and those of one probe lie far apart. group_probs is short enough for an
        # index row: 32 groups and 16 words at most.
        Index(
            "ix_probe_steps_curves",
            "run_id",
            "pair",
            "step",
            postgresql_include=[
                "preferred_change",
                "dispreferred_change",
                "preferred_prob",
                "dispreferred_prob",
                "other_prob",
                "moved_mass",
                "group_probs",
            ],
        ),
        Index(
            "ix_probe_steps_bands",
            "run_id",
            "step",
            "pair",
            postgresql_include=["preferred_change", "dispreferred_change"],
        ),
    )

    run_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)
    preferred_logprobs: Mapped[list[float]] = mapped_column(
        ARRAY(DOUBLE_PRECISION), doc="One for each token of y+."
    )
    dispreferred_logprobs: Mapped[list[float]] = mapped_column(ARRAY(DOUBLE_PRECISION))
    preferred_change: Mapped[float | None] = mapped_column(
        doc="Change of the log-probability of y+ since step 0; null for a prompt."
    )
    dispreferred_change: Mapped[float | None]
    onset_step: Mapped[int | None] = mapped_column(
        doc="Recorded step since which the pair has been displaced; null where it is not."
    )
    preferred_prob: Mapped[float | None] = mapped_column(doc="Null for a prompt.")
    dispreferred_prob: Mapped[float | None]
    other_prob: Mapped[float | None] = mapped_column(doc="1 - preferred - dispreferred.")
    group_probs: Mapped[list[float]] = mapped_column(
        ARRAY(DOUBLE_PRECISION), doc="Sum over each token group, in the probe's order."
    )
    watched_probs: Mapped[list[float]] = mapped_column(
        ARRAY(REAL), doc="In the order of the probe's watched tokens."
    )
    gainers: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB, doc="Top gainers since step 0: {token_id, token, initial, final, change, predicted}."
    )
    losers: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    rest_change: Mapped[float] = mapped_column(
        doc="Sum of the changes of all tokens not listed as gainer or loser."
    )
    moved_mass: Mapped[float] = mapped_column(
        doc="Half the sum of absolute changes: the total variation distance."
    )
    recent: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True),
        doc="The ledger since the previous record: {since_step, gainers, losers, rest_change, "
        "moved_mass}; null at step 0.",
    )
    predicted_changes: Mapped[list[float]] = mapped_column(
        ARRAY(REAL),
        server_default=text("'{}'"),
        doc="Change of each of the probe's predicted tokens since step 0.",
    )
    predicted_ranks: Mapped[list[int]] = mapped_column(
        ARRAY(Integer),
        server_default=text("'{}'"),
        doc="Rank of each in the whole vocabulary by change: 1 gained most.",
    )
    rank_agreement: Mapped[float | None] = mapped_column(
        doc="Spearman's correlation of predicted and actual change over the watched tokens."
    )
    argmax_token: Mapped[str | None] = mapped_column(
        Text, doc="The most likely token at this step; null in runs of earlier versions."
    )
    argmax_logprob: Mapped[float | None] = mapped_column(doc="In nats.")
    kl: Mapped[float | None] = mapped_column(
        doc="KL divergence of the distribution at the fork from that of step 0, in nats; null in "
        "runs of earlier versions."
    )
    recorded_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class ProbePosition(Base):
    """The constant part of a response position, other than the fork, that has a ledger."""

    __tablename__ = "probe_positions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "pair"], ["probes.run_id", "probes.pair"], ondelete="CASCADE"
        ),
        CheckConstraint("response IN ('preferred', 'dispreferred')", name="response"),
        CheckConstraint("prediction_kind IN ('geometry', 'squeezing')", name="prediction_kind"),
    )

    run_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    response: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    watched: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, doc="As in probes.")
    predicted: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, doc="As in probes.")
    prediction_kind: Mapped[str | None] = mapped_column(
        Text,
        doc="'geometry' or 'squeezing'; null where nothing is predicted, and in runs of earlier "
        "versions, which predicted by geometry everywhere.",
    )


class PositionStep(Base):
    """The ledger of such a position at one step; columns as in probe_steps."""

    __tablename__ = "probe_position_steps"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "pair", "response", "position"],
            [
                "probe_positions.run_id",
                "probe_positions.pair",
                "probe_positions.response",
                "probe_positions.position",
            ],
            ondelete="CASCADE",
            name="fk_probe_position_steps_probe_positions",
        ),
    )

    run_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    response: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    watched_probs: Mapped[list[float]] = mapped_column(ARRAY(REAL))
    gainers: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    losers: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    rest_change: Mapped[float]
    moved_mass: Mapped[float]
    recent: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    predicted_changes: Mapped[list[float]] = mapped_column(ARRAY(REAL))
    predicted_ranks: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    rank_agreement: Mapped[float | None]
    argmax_token: Mapped[str | None] = mapped_column(Text)
    argmax_logprob: Mapped[float | None]
    kl: Mapped[float | None]


class ProbeAnswer(Base):
    """The model's greedy answer to a probe's prompt at one step."""

    __tablename__ = "probe_answers"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "pair"], ["probes.run_id", "probes.pair"], ondelete="CASCADE"
        ),
        Index("ix_probe_answers_run_id_revision", "run_id", "revision"),
    )

    run_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)
    text: Mapped[str] = mapped_column(Text)
    ended: Mapped[bool] = mapped_column(
        doc="Whether it ended with an end token before the token limit."
    )
    recorded_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
