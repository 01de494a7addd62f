"""Datasets and their pairs."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class Dataset(Base):
    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(Text, doc="The recognised form, for example 'persona'.")
    source_filename: Mapped[str] = mapped_column(Text)
    source_sha256: Mapped[str] = mapped_column(Text, index=True)
    source_bytes: Mapped[int] = mapped_column(BigInteger)
    pairs: Mapped[int] = mapped_column(doc="Rows stored.")
    rejected: Mapped[int] = mapped_column(doc="Rows that could not be used.")
    errors: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB, doc="The first rejected rows: {row, field, message}; row counts from 1."
    )
    statistics: Mapped[dict[str, Any]] = mapped_column(
        JSONB, doc="Columns found and quantiles of lengths in characters."
    )
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Pair(Base):
    __tablename__ = "pairs"

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    pair: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, doc="The row's ordinal, from 0."
    )
    prompt: Mapped[str | list[dict[str, str]]] = mapped_column(
        JSONB, doc="Plain text, or chat messages {role, content}."
    )
    preferred: Mapped[str] = mapped_column(Text)
    dispreferred: Mapped[str] = mapped_column(Text)
    meta: Mapped[dict[str, Any]] = mapped_column(
        JSONB, doc="The row's other columns, and 'row': its line in the source file, from 1."
    )
    version: Mapped[int] = mapped_column(
        server_default=text("1"), doc="Of the text: 1 as in the file, one more for each edit."
    )
