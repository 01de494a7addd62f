"""The API of the data doctor."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.core.text import STORABLE_PATTERN
from app.doctor import queries
from app.doctor.schemas import DoctorOut
from app.web.session import SessionDep

router = APIRouter(tags=["datasets"])


@router.get("/datasets/{dataset_id}/doctor")
def get_doctor(
    session: SessionDep,
    dataset_id: int,
    model: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=500,
            pattern=STORABLE_PATTERN,
            description="Also what a run found under this model.",
        ),
    ] = None,
) -> DoctorOut:
    """What is worth a look before training, by kind: issues of the pairs' texts, with examples.

    A kind is also a filter: `issue` of GET /datasets/ID/pairs and of the review queue,
    `exclude_issues` and `only_issues` of a selection, `exclude_issue` and `only_issue` of an
    export.
    """
    return queries.examine(session, dataset_id, model)


@router.post("/datasets/{dataset_id}/doctor")
def check_dataset(session: SessionDep, dataset_id: int) -> DoctorOut:
    """Check all pairs again, by their current texts: after edits, or if an earlier version stored
    them. An upload is checked when it is stored."""
    queries.check_dataset(session, dataset_id)
    return queries.examine(session, dataset_id)
