"""The table of answers that a run generated."""

from sqlalchemy import BigInteger, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base


class Generation(Base):
    """One answer; columns as in `chesboard.records.GenerationRecord`."""

    __tablename__ = "generations"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    pair: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, doc="The first pair with this prompt."
    )
    sample: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)
    text: Mapped[str] = mapped_column(Text)
    tokens: Mapped[int] = mapped_column(doc="End token included.")
    ended: Mapped[bool] = mapped_column(doc="False: cut at the limit of tokens.")
    logprob: Mapped[float] = mapped_column(doc="Sum in nats, at temperature 1.")
