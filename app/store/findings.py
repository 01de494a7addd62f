"""The table of findings: what tokenizing a pair under a run's model showed."""

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base


class RunFinding(Base):
    """A finding of one pair; the kinds and their explanations are `chesboard.findings`."""

    __tablename__ = "run_findings"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    detail: Mapped[str | None] = mapped_column(
        Text, doc="What exactly: the template's error, the tokens found, the role of the turn."
    )
