"""The mass ledger of one step at a recorded position."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.core.nonfinite import nonfinite_to_none
from app.probes.lookup import Response, find_step, require_position, require_probe
from app.probes.schemas import (
    Ledger,
    PositionLedger,
    Positions,
    PredictedOut,
    RecentLedgerOut,
    WatchedNow,
)
from app.store.lookup import require_run
from app.store.probes import Probe, ProbePosition

TOP_GAINERS = 3
"""How many top gainers are compared with the predicted ones."""


def get_ledger(
    session: Session,
    run_id: int,
    pair: int,
    step: int | None = None,
    response: Response = "preferred",
    position: int | None = None,
) -> PositionLedger:
    """The mass ledger of one step (default: the last recorded) at a position (default: the fork).

    Raises:
        NotFoundError: no such run, the pair is not watched, or the position or the step was not
            recorded.
    """
    require_run(session, run_id)
    probe = require_probe(session, run_id, pair)
    place = require_position(session, probe, response, position)
    row = find_step(session, probe, step, place)
    return _position_ledger(probe, response, place, row)


def to_ledger(row: Any) -> Ledger:
    """row: of ProbeStep or PositionStep, or None."""
    if row is None:
        return Ledger(step=None, gainers=[], losers=[], rest_change=None, moved_mass=None)
    names = ("step", "gainers", "losers", "rest_change", "moved_mass")
    return Ledger.model_validate(nonfinite_to_none({name: getattr(row, name) for name in names}))


def count_predicted(probe: Probe, gainers: Sequence[Mapping[str, Any]]) -> int | None:
    """How many of the top gainers were predicted; None without predictions or without gainers."""
    if not probe.predicted or not gainers:
        return None
    predicted = {token["token_id"] for token in probe.predicted}
    return sum(entry["token_id"] in predicted for entry in gainers[:TOP_GAINERS])


def _position_ledger(
    probe: Probe, response: Response, place: ProbePosition | None, row: Any
) -> PositionLedger:
    owner = place or probe
    recent = row.recent if row else None
    probs = row.watched_probs if row else []
    return PositionLedger(
        **to_ledger(row).model_dump(),
        position=place.position if place else probe.fork_position,
        response=response,
        recent=RecentLedgerOut.model_validate(nonfinite_to_none(recent)) if recent else None,
        predicted=_predicted(owner.predicted, row),
        rank_agreement=nonfinite_to_none(row.rank_agreement) if row else None,
        prediction_kind=_prediction_kind(place) if owner.predicted else None,
        argmax_token=row.argmax_token if row else None,
        argmax_logprob=nonfinite_to_none(row.argmax_logprob) if row else None,
        kl=nonfinite_to_none(row.kl) if row else None,
        watched=[
            WatchedNow(**token, prob=nonfinite_to_none(prob))
            for token, prob in zip(owner.watched, probs, strict=False)
        ],
        positions=Positions.model_validate(probe.positions),
    )


def _prediction_kind(place: ProbePosition | None) -> Any:
    """Runs of earlier versions predicted by geometry everywhere and did not say so."""
    return (place and place.prediction_kind) or "geometry"


def _predicted(tokens: Sequence[Mapping[str, Any]], row: Any) -> list[PredictedOut]:
    changes = list(row.predicted_changes) if row else []
    ranks = list(row.predicted_ranks) if row else []
    return [
        PredictedOut(
            **token,
            predicted_rank=index + 1,
            # Step 0 stores no changes: nothing has moved yet.
            actual_change=nonfinite_to_none(changes[index]) if changes else 0.0,
            actual_rank=ranks[index] if ranks else None,
        )
        for index, token in enumerate(tokens)
    ]
