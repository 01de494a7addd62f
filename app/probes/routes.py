"""The API of probes: watched pairs and prompts."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.probes import bands, ledgers, listing, lookup, series
from app.probes.schemas import (
    AnswerList,
    Bands,
    PositionLedger,
    ProbeOut,
    ProbeSeries,
    WatchedSeries,
)
from app.store.lookup import MAX_ORDINAL
from app.web.session import SessionDep
from app.web.windows import WindowDep

router = APIRouter(tags=["probes"])

Step = Annotated[
    int | None,
    Query(ge=0, le=MAX_ORDINAL, description="The ledger's step. Default: the last recorded one."),
]
Response = Annotated[
    lookup.Response,
    Query(description="The position's response. Before the fork both responses are the same."),
]
Position = Annotated[
    int | None,
    Query(
        ge=0,
        le=MAX_ORDINAL,
        description="Index of the response token, from 0. Default: the fork.",
    ),
]


@router.get("/runs/{run_id}/probes")
def list_probes(session: SessionDep, run_id: int) -> list[ProbeOut]:
    """What a training run watches, with token texts and forks; pairs first, then prompts."""
    return listing.list_probes(session, run_id)


@router.get("/runs/{run_id}/probes/bands")
def get_bands(session: SessionDep, run_id: int, window: WindowDep) -> Bands:
    """Quantiles over all watched pairs of their changes of log-probability, by step."""
    return bands.get_bands(session, run_id, window)


@router.get("/runs/{run_id}/probes/{pair}")
def get_probe(
    session: SessionDep, run_id: int, pair: int, window: WindowDep, step: Step = None
) -> ProbeSeries:
    """A probe at every recorded step, with the mass ledger of one step at the fork."""
    return series.get_series(session, run_id, pair, step, window)


@router.get("/runs/{run_id}/probes/{pair}/ledger")
def get_ledger(
    session: SessionDep,
    run_id: int,
    pair: int,
    step: Step = None,
    response: Response = "preferred",
    position: Position = None,
) -> PositionLedger:
    """The mass ledger of one step: gainers, losers, and the sum over all other tokens."""
    return ledgers.get_ledger(session, run_id, pair, step, response, position)


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
    return series.get_watched(session, run_id, pair, response, position, window)


@router.get("/runs/{run_id}/probes/{pair}/answers")
def list_answers(session: SessionDep, run_id: int, pair: int) -> AnswerList:
    """The model's greedy answers to the probe's prompt, by step."""
    return listing.list_answers(session, run_id, pair)
