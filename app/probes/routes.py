"""The API of watched pairs."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.database import SessionDep
from app.probes import queries
from app.probes.schemas import Ledger, ProbeOut, ProbeSeries

router = APIRouter(tags=["probes"])

Step = Annotated[
    int | None, Query(ge=0, description="Whose ledger to show; default: the last recorded step.")
]


@router.get("/runs/{run_id}/probes")
def list_probes(session: SessionDep, run_id: int) -> list[ProbeOut]:
    """The pairs that a training run watches, with their token texts and forks."""
    return queries.list_probes(session, run_id)


@router.get("/runs/{run_id}/probes/{pair}")
def get_probe(session: SessionDep, run_id: int, pair: int, step: Step = None) -> ProbeSeries:
    """A watched pair at every recorded step, and where its probability went."""
    return queries.get_series(session, run_id, pair, step)


@router.get("/runs/{run_id}/probes/{pair}/ledger")
def get_ledger(session: SessionDep, run_id: int, pair: int, step: Step = None) -> Ledger:
    """The mass ledger of one step: gainers, losers, and all other tokens together."""
    return queries.get_ledger(session, run_id, pair, step)
