"""What a recorder may do: read external runs, and create none of another kind."""

from anyio import to_thread
from fastapi import Request

from app.auth.authentication import visitor_of
from app.auth.permissions import Role
from app.core.database import transaction
from app.core.errors import ForbiddenError
from app.store.lookup import find_run
from app.store.runs import EXTERNAL

REFUSAL = "This requires the role viewer; a recorder reads and records external runs alone."


def is_recorder(request: Request) -> bool:
    visitor = visitor_of(request)
    return visitor is not None and visitor.role is Role.RECORDER


async def check_recorder(request: Request) -> None:
    """A dependency of every route. Only a recorder's request for a run looks into the database.

    Raises:
        ForbiddenError: the visitor is a recorder, and the run is not external.
    """
    named = request.path_params.get("run_id", "")
    if is_recorder(request) and str(named).isdigit():
        await to_thread.run_sync(_check_external, int(named))


def _check_external(run_id: int) -> None:
    with transaction() as session:
        run = find_run(session, run_id)
        if run is not None and run.kind != EXTERNAL:
            raise ForbiddenError(REFUSAL)
