"""The API of probes: watched pairs and prompts."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.core.database import SessionDep
from app.core.windows import WindowDep
from app.probes import queries
from app.probes.schemas import (
    AnswerList,
    Bands,
    PositionLedger,
    ProbeOut,
    ProbeSeries,
    WatchedSeries,
)

router = APIRouter(tags=["probes"])

Step = Annotated[
    int | None, Query(ge=0, description="Whose ledger to show; default: the last recorded step.")
]
Response = Annotated[
    Literal["preferred", "dispreferred"],
    Query(description="Whose position; up to the fork both responses share theirs."),
]
Position = Annotated[
    int | None, Query(ge=0, description="Of the response's token, from 0; default: the fork.")
]


@router.get("/runs/{run_id}/probes")
def list_probes(session: SessionDep, run_id: int) -> list[ProbeOut]:
    """What a training run watches, with token texts and forks; pairs first, then prompts."""
    return queries.list_probes(session, run_id)


@router.get("/runs/{run_id}/probes/bands")
def get_bands(session: SessionDep, run_id: int, window: WindowDep) -> Bands:
    """How all watched pairs went: quantiles over them, step by step."""
    return queries.get_bands(session, run_id, window)


@router.get("/runs/{run_id}/probes/{pair}")
def get_probe(
    session: SessionDep, run_id: int, pair: int, window: WindowDep, step: Step = None
) -> ProbeSeries:
    """A probe at every recorded step, and where its probability went."""
    return queries.get_series(session, run_id, pair, step, window)


@router.get("/runs/{run_id}/probes/{pair}/ledger")
def get_ledger(
    session: SessionDep,
    run_id: int,
    pair: int,
    step: Step = None,
    response: Response = "preferred",
    position: Position = None,
) -> PositionLedger:
    """The mass ledger of one step: gainers, losers, and all other tokens together."""
    return queries.get_ledger(session, run_id, pair, step, response, position)


@router.get("/runs/{run_id}/probes/{pair}/watched")
def get_watched(
    session: SessionDep,
    run_id: int,
    pair: int,
    window: WindowDep,
    response: Response = "preferred",
    position: Position = None,
) -> WatchedSeries:
    """Probabilities of a position's watched tokens at every recorded step."""
    return queries.get_watched(session, run_id, pair, response, position, window)


@router.get("/runs/{run_id}/probes/{pair}/answers")
def list_answers(session: SessionDep, run_id: int, pair: int) -> AnswerList:
    """The model's own greedy answers to the probe's prompt, by step."""
    return queries.list_answers(session, run_id, pair)
