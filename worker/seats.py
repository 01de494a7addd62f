"""A training run of several workers, on any machines: each takes a seat (app/store/seats.py).

All are ready before torchrun starts at each: the first is reached, the run's folder is one folder,
the model is the same. From then on the run is that of one worker with more processes. Where a seat
is lost, so is the attempt: the first lets the run go, and the next goes on from its checkpoint.
"""

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.broker import enqueue
from app.core.database import transaction
from app.core.settings import get_settings
from app.store import seats
from app.store.leases import Claim
from app.store.seats import Offer, SeatClaim, SeatState
from chesboard.configs import TrainConfig
from chesboard.reporting import Control, Reporter, RunStoppedError
from worker.launching import (
    Meeting,
    RankFailedError,
    RanksLostError,
    read_results,
    refuse_unsupported,
    run_ranks,
    train_on_ranks,
)
from worker.lease_keeper import LeaseKeeper
from worker.models.cache import ModelCache
from worker.preparing import describe_error, is_failure
from worker.retry import run_with_retry
from worker.seat_checks import (
    check_folder,
    check_way,
    interface_of,
    listening,
    marked,
    own_host,
)

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""Between two looks at the other seats."""
SHOWN_SECONDS = 5.0
"""Between two reports that a run waits."""
LAST_WORDS_SECONDS = 45.0
"""How long another worker may take to tell how its processes ended: torchrun gives those that are
left half a minute."""


def train_on_seats(
    claim: Claim, reporter: Reporter, control: Control, models: ModelCache
) -> dict[str, Any]:
    """`worker.launching.train_on_ranks`, from the first of several seats."""
    with FirstSeat(claim) as others:
        return train_on_ranks(claim, reporter, control, models, others)


class FirstSeat:
    """The other seats of an attempt, as the worker that claimed the run sees them. A context
    manager: leaving it ends the attempt for all."""

    def __init__(self, claim: Claim) -> None:
        settings = get_settings()
        self._run_id, self._token = claim.run_id, claim.token
        self._offer = Offer(settings.gpus, settings.seats)
        self._next_look = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with transaction() as session:
                seats.close(session, self._run_id, self._token)
        except SQLAlchemyError as failure:
            # They end with the run's lease.
            log.warning("run %s: seats not closed: %s", self._run_id, str(failure).splitlines()[0])

    def gather(self, location: str, reporter: Reporter, control: Control) -> Meeting:
        """Return once all others are ready.

        Raises:
            RankFailedError: one of them cannot begin.
            ValueError: too few workers have been there for longer than the settings allow.
            RunStoppedError: `control` raised it.
        """
        host, marker = own_host(self._run_id), uuid.uuid4().hex
        with listening(host, marker) as port, marked(self._run_id, marker, location):
            run_with_retry(
                f"run {self._run_id}",
                lambda s: seats.receive(s, self._run_id, self._token, host, port, marker),
            )
            for _ in range(self._offer.seats - 1):
                enqueue(self._run_id)
            left_from = self._wait(reporter, control)
        return Meeting(0, self._offer.seats, host, port, interface_of(host, left_from))

    def _wait(self, reporter: Reporter, control: Control) -> str:
        """Returns the address from which this worker reaches the others."""
        timeout = get_settings().seat_timeout.total_seconds()
        shown: tuple[int, float] | None = None
        lacking_since = time.monotonic()
        ways = _Ways()
        while True:
            control.check()
            found, there = run_with_retry(f"run {self._run_id}", self._look)
            for seat in found:
                if seat.results is not None:
                    raise RankFailedError(_error_of(seat.results))
            taken, now = sum(seat.worker is not None for seat in found), time.monotonic()
            if shown is None or shown[0] != taken or now - shown[1] > SHOWN_SECONDS:
                shown = (taken, now)
                reporter.phase("waiting for seats", taken, self._offer.seats, "taken")
            are_ready = bool(found) and all(seat.ready for seat in found)
            if are_ready and ways.are_open(found) and self._begin():
                return ways.left_from
            if there >= self._offer.seats:
                lacking_since = now  # some are busy, and will come
            elif now - lacking_since > timeout:
                raise ValueError(_too_few(self._offer, there, timeout))
            time.sleep(LOOK_SECONDS)

    def _look(self, session: Session) -> tuple[list[SeatState], int]:
        seats.free_silent(session, self._run_id, self._token)
        there = seats.count_workers(session, self._offer, get_settings().lease)
        return seats.read(session, self._run_id, self._token), there

    def _begin(self) -> bool:
        return run_with_retry(
            f"run {self._run_id}", lambda s: seats.begin(s, self._run_id, self._token)
        )

    def are_lost(self) -> bool:
        """Whether a seat's worker is silent or gone, or its processes have failed."""
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + LOOK_SECONDS
        try:
            with transaction() as session:
                found = seats.read(session, self._run_id, self._token)
        except SQLAlchemyError:
            # None could renew its lease: they get the time to.
            self._next_look = time.monotonic() + get_settings().lease.total_seconds()
            return False
        lost = [seat for seat in found[1:] if _is_gone(seat) or _has_failed(seat)]
        for seat in lost:
            log.warning("run %s: seat %s (%s) is lost", self._run_id, seat.seat + 1, seat.worker)
        return bool(lost)

    def results(self) -> list[dict[str, Any] | None]:
        """How the processes of the others ended, once all have told or are gone."""
        ends = time.monotonic() + LAST_WORDS_SECONDS
        while True:
            found = run_with_retry(
                f"run {self._run_id}", lambda s: seats.read(s, self._run_id, self._token)
            )
            others = found[1:]
            is_over = all(seat.results is not None or _is_gone(seat) for seat in others)
            if is_over or time.monotonic() > ends:
                break
            time.sleep(LOOK_SECONDS)
        silent: list[dict[str, Any] | None] = [None] * self._offer.gpus
        return [one for seat in others for one in seat.results or silent]


class _Ways:
    """From the first worker to the others."""

    def __init__(self) -> None:
        self.left_from = ""
        """The address of this machine from which the last was reached."""
        self._open: set[tuple[str, int]] = set()
        self._closed_since: dict[tuple[str, int], float] = {}

    def are_open(self, found: list[SeatState]) -> bool:
        """Whether all others are reached.

        Raises:
            ValueError: one is not, and is alive all the same.
        """
        marker = found[0].marker
        assert marker is not None
        for seat in found[1:]:
            assert seat.host is not None
            assert seat.port is not None
            way = (seat.host, seat.port)
            if way in self._open:
                continue
            try:
                self.left_from = check_way(*way, marker, f"the worker {seat.worker}")
            except ValueError as error:
                since = self._closed_since.setdefault(way, time.monotonic())
                # A worker that is gone loses its seat meanwhile.
                if time.monotonic() - since > 2 * get_settings().lease.total_seconds():
                    message = f"The first worker cannot begin: {error}"
                    raise ValueError(message) from error
                return False
            self._open.add(way)
        return True


def take_seat(taken: SeatClaim, worker: str, models: ModelCache) -> None:
    """Train a run together with the worker that claimed it, and tell it how that ended here."""
    run_id = taken.run.run_id
    log.info("run %s: seat %s, attempt %s", run_id, taken.seat + 1, taken.run.attempt)
    results: list[dict[str, Any] | None]
    try:
        with LeaseKeeper(run_id, taken.token, seats) as control:
            results = _take_part(taken, control, models)
    except RunStoppedError as error:
        log.info("run %s: seat %s is left: %s", run_id, taken.seat + 1, error)
        with suppress(RunStoppedError):  # no database: the seat's lease ends by itself
            run_with_retry(f"run {run_id}", lambda s: seats.leave(s, run_id, taken.token))
        return
    except BaseException as error:
        if not is_failure(error):
            raise
        log.exception("run %s: seat %s cannot begin", run_id, taken.seat + 1)
        models.forget()
        described = describe_error(error)
        described["message"] = f"The worker {worker} cannot take part: {described['message']}"
        failed = {"status": "failed", "error": described, "lost_another": False, "at": time.time()}
        results = [failed]
    with suppress(RunStoppedError):
        run_with_retry(f"run {run_id}", lambda s: seats.tell(s, run_id, taken.token, results))


def _take_part(
    taken: SeatClaim, control: Control, models: ModelCache
) -> list[dict[str, Any] | None]:
    settings, claim = get_settings(), taken.run
    config, gpus = TrainConfig.model_validate(claim.config), settings.gpus
    refuse_unsupported(config, gpus, settings.seats)
    location = models.prepare(config, lambda *_: control.check(), gpus * settings.seats)
    first = _until(claim, control, lambda found: found[0].ready)[0]
    assert first.host is not None
    assert first.port is not None
    assert first.marker is not None
    check_folder(claim.run_id, taken.seat, first.marker, location, control)
    left_from = check_way(first.host, first.port, first.marker)
    host = own_host(claim.run_id)
    with listening(host, first.marker) as port:
        run_with_retry(
            f"run {claim.run_id}",
            lambda s: seats.get_ready(s, claim.run_id, taken.token, host, port),
        )
        _until(claim, control, lambda found: found[0].begun)
    interface = interface_of(host, left_from)
    meeting = Meeting(taken.seat, settings.seats, first.host, first.port, interface)
    with TemporaryDirectory(prefix="chesboard-ranks-") as name:
        # How those ended that are lost is not known; that the worker could not begin is not so.
        with suppress(RanksLostError):
            run_ranks(claim, location, Path(name), control, meeting)
        return read_results(Path(name), range(taken.seat * gpus, (taken.seat + 1) * gpus))


def _until(
    claim: Claim, control: Control, is_so: Callable[[list[SeatState]], bool]
) -> list[SeatState]:
    """The seats of an attempt, once they are so."""
    while True:
        control.check()
        found = run_with_retry(
            f"run {claim.run_id}", lambda s: seats.read(s, claim.run_id, claim.token)
        )
        if found and is_so(found):
            return found
        time.sleep(LOOK_SECONDS)


def _is_gone(seat: SeatState) -> bool:
    return seat.worker is None or seat.silent


def _has_failed(seat: SeatState) -> bool:
    """Not those that were told to stop: the first may still write what all have done."""
    return seat.results is not None and any(
        one is None or one["status"] == "failed" for one in seat.results
    )


def _error_of(results: list[dict[str, Any] | None]) -> dict[str, Any]:
    error: dict[str, Any] = next(one["error"] for one in results if one is not None)
    return error


def _too_few(offer: Offer, there: int, seconds: float) -> str:
    return (
        f"The run needs {offer.seats} workers that were started with `{offer.command}`, and for "
        f"{seconds:,.0f} s only {there} {'was' if there == 1 else 'were'} there "
        "(CHESBOARD_SEAT_TIMEOUT). Start the others, or a worker without --seats, and resume the "
        "run."
    )
