"""Probes, positions and recorded steps by their keys, or the error that says what is missing."""

from typing import Any, Literal

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.core.errors import NotFoundError
from app.store.lookup import MAX_ORDINAL
from app.store.probes import PositionStep, Probe, ProbePosition, ProbeStep

Response = Literal["preferred", "dispreferred"]


def require_probe(session: Session, run_id: int, pair: int) -> Probe:
    """Raises:
    NotFoundError: the run does not watch the pair.
    """
    probe = session.get(Probe, (run_id, pair)) if abs(pair) <= MAX_ORDINAL else None
    if probe is None:
        raise NotFoundError(
            f"Run {run_id} does not watch pair {pair}. GET /runs/{run_id}/probes lists those that "
            "it watches; a run that has not started watches none yet."
        )
    return probe


def require_position(
    session: Session, probe: Probe, response: Response, position: int | None
) -> ProbePosition | None:
    """The position with a ledger; None for the fork (the default), which the probe itself holds.

    Raises:
        NotFoundError: the position has no ledger.
    """
    if position is None or position == probe.fork_position:
        return None
    # Before the fork both responses are the same; their ledgers are stored once, under y+.
    stored_under = "preferred" if position < probe.fork_position else response
    found = None
    if position <= MAX_ORDINAL:
        found = session.get(ProbePosition, (probe.run_id, probe.pair, stored_under, position))
    if found is None:
        raise NotFoundError(
            f"Run {probe.run_id} keeps no ledger of the {response} response's position "
            f"{position} for pair {probe.pair}. Recorded are {probe.positions[response]}; a run's "
            "`ledger_positions` asks for more."
        )
    return found


def steps_of(probe: Probe, place: ProbePosition | None) -> tuple[Any, list[ColumnElement[bool]]]:
    """The table that holds the steps of a position (None: the fork), and the conditions that
    select them."""
    if place is None:
        return ProbeStep, [ProbeStep.run_id == probe.run_id, ProbeStep.pair == probe.pair]
    return PositionStep, [
        PositionStep.run_id == probe.run_id,
        PositionStep.pair == probe.pair,
        PositionStep.response == place.response,
        PositionStep.position == place.position,
    ]


def find_step(
    session: Session, probe: Probe, step: int | None, place: ProbePosition | None = None
) -> Any:
    """The row of a step (default: the last), or None where no step has been recorded yet.

    Raises:
        NotFoundError: a step was named that was not recorded.
    """
    table, key = steps_of(probe, place)
    query = select(table).where(*key).order_by(table.step.desc()).limit(1)
    if step is None:
        return session.scalar(query)
    row = session.scalar(query.where(table.step == step)) if step <= MAX_ORDINAL else None
    if row is None:
        raise NotFoundError(
            f"Step {step} of run {probe.run_id} was not recorded for pair {probe.pair}. "
            f"`steps` of GET /runs/{probe.run_id}/probes/{probe.pair} lists the recorded ones."
        )
    return row
