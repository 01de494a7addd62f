"""GET /healthz: whether database, broker and workers are up, for supervisors and load balancers."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.auth.authentication import visitor_of
from app.core.broker import broker_is_up
from app.core.database import spare_transaction
from app.core.settings import get_settings
from app.store.runs import Worker

router = APIRouter(tags=["health"])

State = Literal["ok", "down"]


class WorkerHealth(BaseModel):
    name: str
    device: str = Field(description="Description, for example 'cpu, 2 threads'.")
    run_id: int | None = Field(description="The run that it executes, if any.")


class Health(BaseModel):
    status: State = Field(description="down if the database or the broker is.")
    database: State
    broker: State
    workers: list[WorkerHealth] = Field(description="Workers seen within the duration of a lease.")


class Liveness(BaseModel):
    """The response without a token, on a server that requires one."""

    status: State


@router.get("/healthz", responses={503: {"model": Health | Liveness}})
async def healthz(request: Request, response: Response) -> Health | Liveness:
    """State of the database, the broker and the workers; 503 if database or broker is down.

    Requires no token, but without one returns only `status`.
    """
    known = visitor_of(request) is not None
    # Not the threads and connections of the other requests: these may all be at work. Strangers
    # wait for each other only.
    loop = asyncio.get_running_loop()
    threads, check = (_ours, check_health) if known else (_strangers, _recent_health)
    health = await loop.run_in_executor(threads(), check)
    response.status_code = 200 if health.status == "ok" else 503
    response.headers["Cache-Control"] = "no-store"
    return health if known else Liveness(status=health.status)


@lru_cache
def _ours() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="health")


@lru_cache
def _strangers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="health")


def _recent_health() -> Health:
    """Cached for a second, so that anonymous requests put no load on the database."""
    return _health_in(int(time.monotonic()))


@lru_cache(maxsize=1)
def _health_in(_second: int) -> Health:
    return check_health()


def check_health() -> Health:
    """Query database and broker now; takes seconds if one does not answer."""
    workers = _live_workers()
    broker = broker_is_up()
    return Health(
        status="ok" if workers is not None and broker else "down",
        database="down" if workers is None else "ok",
        broker="ok" if broker else "down",
        workers=workers or [],
    )


def _live_workers() -> list[WorkerHealth] | None:
    """None if the database does not answer."""
    recently = func.now() - get_settings().lease
    query = select(Worker).where(Worker.seen_at >= recently).order_by(Worker.name)
    try:
        with spare_transaction() as session:
            return [
                WorkerHealth(name=worker.name, device=worker.device, run_id=worker.run_id)
                for worker in session.scalars(query)
            ]
    except SQLAlchemyError:
        return None
