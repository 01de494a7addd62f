"""Is everything there that a run needs? For people, supervisors and load balancers."""

import time
from functools import lru_cache
from typing import Literal

import redis
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.auth.authentication import visitor_of
from app.core.broker import get_redis
from app.core.database import transaction
from app.core.settings import get_settings
from app.store.runs import Worker

router = APIRouter(tags=["health"])

State = Literal["ok", "down"]


class WorkerHealth(BaseModel):
    name: str
    device: str = Field(description="In words, for example 'cpu, 2 threads'.")
    run_id: int | None = Field(description="The run it works on, if any.")


class Health(BaseModel):
    status: State = Field(description="down where the database or the broker is.")
    database: State
    broker: State
    workers: list[WorkerHealth] = Field(description="Those that were heard of within a lease.")


class Liveness(BaseModel):
    """What a stranger is told, where tokens are set."""

    status: State


@router.get("/healthz", responses={503: {"model": Health | Liveness}})
def healthz(request: Request, response: Response) -> Health | Liveness:
    """The state of the database, the broker and the workers; 503 where one of the first is down.

    Needs no token, but without one says only `status`.
    """
    known = visitor_of(request) is not None
    health = check_health() if known else _recent_health(int(time.monotonic()))
    response.status_code = 200 if health.status == "ok" else 503
    response.headers["Cache-Control"] = "no-store"
    return health if known else Liveness(status=health.status)


@lru_cache(maxsize=1)
def _recent_health(_second: int) -> Health:
    """Looked at once a second, so that strangers who ask often cost the database nothing."""
    return check_health()


def check_health() -> Health:
    """Asks each of them now; takes seconds where one does not answer."""
    workers = _live_workers()
    broker = _broker_answers()
    return Health(
        status="ok" if workers is not None and broker else "down",
        database="down" if workers is None else "ok",
        broker="ok" if broker else "down",
        workers=workers or [],
    )


def _live_workers() -> list[WorkerHealth] | None:
    """None where the database does not answer."""
    recently = func.now() - get_settings().lease
    query = select(Worker).where(Worker.seen_at >= recently).order_by(Worker.name)
    try:
        with transaction() as session:
            return [
                WorkerHealth(name=worker.name, device=worker.device, run_id=worker.run_id)
                for worker in session.scalars(query)
            ]
    except SQLAlchemyError:
        return None


def _broker_answers() -> bool:
    try:
        return bool(get_redis().ping())
    except redis.RedisError:
        return False
