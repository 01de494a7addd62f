"""Tables of runs that are trained outside of this server: what is known of them besides their
records, where their trainers went back to, and the tokens that may record them."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Text,
    and_,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base
from app.store.runs import EXTERNAL, Run


class ExternalRun(Base):
    """The part of a run that only those of the kind 'external' have."""

    __tablename__ = "external_runs"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(
        Text, unique=True, doc="Chosen by the client: creating a run twice with it makes one."
    )
    heard_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True),
        server_default=func.clock_timestamp(),
        doc="When its trainer last sent something, a heartbeat included.",
    )
    recorded_through: Mapped[int | None] = mapped_column(
        doc="The last step that is recorded; null before the first."
    )
    records: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), doc="How many records were taken in."
    )
    advanced_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), doc="When `recorded_through` rose last, or training was resumed."
    )
    pace_seconds: Mapped[float | None] = mapped_column(doc="A step, of late.")
    same_pairs: Mapped[bool | None] = mapped_column(
        doc="Whether the watched pairs are those of the run's dataset with the same ordinals; null "
        "before any is known, and without a dataset."
    )


def numbers_pairs_as_dataset() -> ColumnElement[bool]:
    """Of training runs: whether a pair of one is the pair of its dataset with the same ordinal. One
    of our own always; an external one where its trainer numbers them so."""
    theirs = select(ExternalRun.run_id).where(ExternalRun.same_pairs.is_(True))
    return or_(Run.kind == "train", and_(Run.kind == EXTERNAL, Run.id.in_(theirs)))


class Rewind(Base):
    """A trainer went on from a checkpoint: what was recorded after `step` was deleted."""

    __tablename__ = "rewinds"
    __table_args__ = (Index("ix_rewinds_run_id_revision", "run_id", "revision"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, doc="The one that began here."
    )
    revision: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(doc="The step that it goes on from.")
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )


class RecorderToken(Base):
    """An access token of the role 'recorder' that was made on a page. The token itself is not
    stored."""

    __tablename__ = "recorder_tokens"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(Text, unique=True, doc="Of the token, in hexadecimal.")
    made_by: Mapped[str] = mapped_column(Text, doc="Name of the operator's token.")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
