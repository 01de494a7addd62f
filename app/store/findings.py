"""The table of findings: what tokenizing a pair under a run's model showed."""

from sqlalchemy import ColumnElement, ForeignKey, Text, any_, func, literal, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.database import Base
from chesboard.findings import FINDINGS, FindingKind
from chesboard.tallies import LISTED, NAMED_PAIRS, Tallies, Tally


class RunFinding(Base):
    """A finding of one pair; the kinds and their explanations are `chesboard.findings`."""

    __tablename__ = "run_findings"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    pair: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    detail: Mapped[str | None] = mapped_column(
        Text, doc="What exactly: the template's error, the tokens found, the role of the turn."
    )


def tally_findings(session: Session, run_id: int) -> Tallies:
    """How many pairs of a run have findings of each kind, and the first of them."""
    counts = session.execute(
        select(RunFinding.kind, func.count().label("pairs"))
        .where(RunFinding.run_id == run_id)
        .group_by(RunFinding.kind)
    )
    found = {row.kind: row.pairs for row in counts}
    kinds: dict[FindingKind, Tally] = {
        kind: _tally(session, run_id, kind, found[kind]) for kind in FINDINGS if kind in found
    }
    return Tallies(kinds, _roles(session, run_id) if "turn_left_out" in kinds else {})


def _tally(
    session: Session, run_id: int, kind: FindingKind, count: int, *conditions: ColumnElement[bool]
) -> Tally:
    rows = session.execute(
        select(RunFinding.pair, RunFinding.detail)
        .where(RunFinding.run_id == run_id, RunFinding.kind == kind, *conditions)
        .order_by(RunFinding.pair)
        .limit(NAMED_PAIRS)
    ).all()
    return Tally(count, [row.pair for row in rows], [row.detail for row in rows])


def _roles(session: Session, run_id: int) -> dict[str, Tally]:
    """Of pairs with a turn that is left out, by its role."""
    roles = func.string_to_array(RunFinding.detail, LISTED)
    named = (
        select(func.unnest(roles).label("role"))
        .where(RunFinding.run_id == run_id, RunFinding.kind == "turn_left_out")
        .subquery("named")
    )
    counts = session.execute(
        select(named.c.role, func.count().label("pairs"))
        .group_by(named.c.role)
        .order_by(named.c.role)
    ).all()
    return {
        row.role: _tally(
            session, run_id, "turn_left_out", row.pairs, literal(row.role) == any_(roles)
        )
        for row in counts
    }
