"""The table of seats: the places of workers that train one model together."""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, ForeignKey, Integer, Text
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base


class RunSeat(Base):
    __tablename__ = "run_seats"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    seat: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, doc="From 0, that of the worker with the run."
    )
    attempt_token: Mapped[str] = mapped_column(Text, doc="The run's lease token in this attempt.")
    seats: Mapped[int] = mapped_column(Integer, doc="How many the attempt has.")
    gpus: Mapped[int] = mapped_column(Integer, doc="How many processes each starts.")
    worker: Mapped[str | None] = mapped_column(Text, doc="Who has it; null: free.")
    taken_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), doc="When that worker took it."
    )
    lease_token: Mapped[str | None] = mapped_column(Text, doc="Null for the first: the run's.")
    lease_expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ready: Mapped[bool] = mapped_column(
        server_default=sql("false"), doc="Its worker sees folder and model, and can begin."
    )
    begun: Mapped[bool] = mapped_column(
        server_default=sql("false"), doc="All were ready: the processes of each are started."
    )
    host: Mapped[str | None] = mapped_column(
        Text, doc="Where the others find it, and the port at which it answers until they begin."
    )
    port: Mapped[int | None] = mapped_column(Integer)
    marker: Mapped[str | None] = mapped_column(
        Text, doc="Of the first: in the name of a file that all must see in the run's folder."
    )
    results: Mapped[list[dict[str, Any] | None] | None] = mapped_column(
        JSONB(none_as_null=True), doc="How each of its processes ended; null: they have not."
    )
