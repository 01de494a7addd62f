"""Tables of datasets: their pairs, issues found in these, and rejected rows."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base


class Dataset(Base):
    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(Text, doc="The detected format, for example 'persona'.")
    source_filename: Mapped[str] = mapped_column(Text)
    source_sha256: Mapped[str] = mapped_column(Text, index=True)
    source_bytes: Mapped[int] = mapped_column(BigInteger)
    pairs: Mapped[int] = mapped_column(doc="Number of pairs stored.")
    rejected: Mapped[int] = mapped_column(doc="Number of rejected rows.")
    errors: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB, doc="The first rejected rows: {row, field, message}; row counts from 1."
    )
    statistics: Mapped[dict[str, Any]] = mapped_column(
        JSONB, doc="Detected columns, and quantiles of text lengths in characters."
    )
    columns: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB, doc="The file's column mapping (chesboard.formats.columns.Columns)."
    )
    hub_name: Mapped[str | None] = mapped_column(
        Text, doc="Where it is from the hub: org/name; null for an uploaded file."
    )
    hub_config: Mapped[str | None] = mapped_column(Text)
    hub_split: Mapped[str | None] = mapped_column(Text)
    hub_revision: Mapped[str | None] = mapped_column(Text, doc="The id of the commit on the hub.")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Pair(Base):
    __tablename__ = "pairs"

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    pair: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, doc="The row's ordinal, from 0."
    )
    prompt: Mapped[str | list[dict[str, Any]]] = mapped_column(
        JSONB, doc="Plain text, or chat messages {role, content}."
    )
    preferred: Mapped[str] = mapped_column(Text)
    dispreferred: Mapped[str] = mapped_column(Text)
    meta: Mapped[dict[str, Any]] = mapped_column(
        JSONB, doc="The row's other columns, and 'row': its line in the source file, from 1."
    )
    version: Mapped[int] = mapped_column(
        server_default=text("1"),
        doc="Version of the texts: 1 as in the file, incremented by each edit.",
    )
    source: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB, doc="What an export needs to restore the row (app.datasets.formats.layouts)."
    )
    fingerprint: Mapped[int | None] = mapped_column(
        BigInteger,
        doc="Hash of the texts; lowest bit: the responses' order (app.datasets.fingerprints).",
    )


class PairIssue(Base):
    """An issue of a pair, found when its file was read, when it was edited or checked again."""

    __tablename__ = "pair_issues"

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    issue: Mapped[str] = mapped_column(Text, primary_key=True, doc="Its kind (chesboard.issues).")
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    other: Mapped[int | None] = mapped_column(doc="The pair that it repeats or conflicts with.")
    detail: Mapped[str | None] = mapped_column(Text, doc="What was seen, in a few words.")


class Rejection(Base):
    """A rejected row of the file. The first ten thousand are kept."""

    __tablename__ = "rejections"

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    row: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)
    field: Mapped[str | None] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    snippet: Mapped[str | None] = mapped_column(Text)
