"""The table of a judge's verdicts on the answers of a generate run."""

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base


class Judgment(Base):
    """One verdict; columns as in `chesboard.records.JudgmentRecord`. The answer is that of the same
    pair and sample in the generate run that the judge run's configuration names."""

    __tablename__ = "judgments"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sample: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    verdict: Mapped[bool | None] = mapped_column(doc="Null: no verdict was had, as `reason` says.")
    score: Mapped[float | None] = mapped_column(doc="The judge's own number, if it gives one.")
    reason: Mapped[str | None] = mapped_column(Text)
