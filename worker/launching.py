"""A training run on several processes: started by torchrun, watched, and ended with this worker.

torchrun starts the processes once and never again (`--max-restarts=0`): the lease is what starts a
run anew from its checkpoint, here or at another worker, with as many GPUs as that one has.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import psutil
import torch

from app.core.orphans import bind_to_parent
from app.core.settings import get_settings
from app.store.leases import Claim
from chesboard.configs import TrainConfig
from chesboard.reporting import (
    Control,
    Reporter,
    RunCancelledError,
    RunInterruptedError,
    RunStoppedError,
)
from worker.models.cache import ModelCache
from worker.phases import phases
from worker.pulse import Watch
from worker.training.sharing import STOPS

POLL_SECONDS = 0.1
CANCEL_SECONDS = 60.0
"""How long processes of a cancelled run may take to end by themselves."""
LOST_SECONDS = 5.0
"""How long processes that have lost others, on another machine, may take to tell what they know."""
TASK = "task.json"


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the torchruns of several workers meet: at the first's address. seat: this worker's of
    `seats`, from 0. interface: the network interface that the processes talk over; None: any."""

    seat: int
    seats: int
    host: str
    port: int
    interface: str | None = None


class Others(Protocol):
    """The workers on a run's other seats (`worker.seats`)."""

    def gather(self, location: str, reporter: Reporter, control: Control) -> Meeting:
        """Return once all are ready. location: the folder of the run's model.

        Raises:
            RankFailedError: one of them cannot begin.
            ValueError: too few came.
            RunStoppedError: the run was cancelled, must stop, or is another worker's.
        """

    def are_lost(self) -> bool:
        """Whether processes of theirs have failed or died. Called several times a second."""

    def results(self) -> list[dict[str, Any] | None]:
        """How each of their processes ended; None: without a word."""


class RanksLostError(Exception):
    """Processes of a run ended without a word, killed or out of the machine's memory; or stand
    still."""


class RankFailedError(Exception):
    """A process of a run failed. described: its error, by `worker.preparing.describe_error`."""

    def __init__(self, described: dict[str, Any]) -> None:
        super().__init__(described["message"])
        self.described = described


def train_on_ranks(
    claim: Claim,
    reporter: Reporter,
    control: Control,
    models: ModelCache,
    others: Others | None = None,
) -> dict[str, Any]:
    """Train a claimed run on as many processes as the settings say, and return its summary.

    others: the workers with the other seats, where the settings say that there are some.

    Raises:
        ValueError: the run needs what several processes cannot do yet.
        ModelError: its model cannot be used, or does not fit.
        RunStoppedError: it was cancelled, must stop, or is another worker's; a checkpoint is left.
        RankFailedError: a process failed.
        RanksLostError: processes died, or are stuck.
    """
    settings = get_settings()
    config, gpus = TrainConfig.model_validate(claim.config), settings.gpus
    refuse_unsupported(config, gpus, settings.seats)
    on_phase = phases(reporter, control)
    location = models.prepare(config, on_phase, gpus * settings.seats)
    meeting = None if others is None else others.gather(location, reporter, control)
    on_phase("loading")
    with TemporaryDirectory(prefix="chesboard-ranks-") as name:
        folder = Path(name)
        is_lost = None if others is None else others.are_lost
        status, stop = run_ranks(claim, location, folder, control, meeting, is_lost)
        return _result(folder, gpus, status, stop, others)


def run_ranks(
    claim: Claim,
    location: str,
    folder: Path,
    control: Control,
    meeting: Meeting | None = None,
    is_lost: Callable[[], bool] | None = None,
) -> tuple[int, RunStoppedError | None]:
    """Start this worker's processes and wait until they have ended. Returns torchrun's exit status,
    and why they were asked to stop, if they were.

    folder: where they leave how they ended. is_lost: whether processes elsewhere are gone.

    Raises:
        LeaseLostError: the run is another worker's; the processes were killed.
        RanksLostError: they are stuck.
    """
    config, gpus = TrainConfig.model_validate(claim.config), get_settings().gpus
    about = {**asdict(claim), "created_at": claim.created_at.isoformat()}
    (folder / TASK).write_text(json.dumps({"claim": about, "location": location}))
    environment = _environment(config, gpus, meeting)
    torchrun = _start(claim.run_id, folder, gpus, environment, meeting)
    first = 0 if meeting is None else meeting.seat * gpus
    limit = get_settings().rank_timeout.total_seconds()
    watch = Watch(folder, range(first, first + gpus), limit)
    try:
        stop = _wait(torchrun, control, watch, is_lost)
    finally:
        _kill(torchrun)
    return torchrun.returncode, stop


def refuse_unsupported(config: TrainConfig, gpus: int, seats: int = 1) -> None:
    """Raises:
    ValueError: the configuration needs what several processes cannot do yet, or more GPUs than
        there are.
    """
    command = f"chesboard worker --gpus {gpus}" + f" --seats {seats}" * (seats > 1)
    asked = f"This worker trains each model on {gpus * seats} GPUs (`{command}`)"
    if config.refresh_filter is not None:
        raise ValueError(
            f"{asked}, where refresh_filter is not supported: the model's answers and the reward "
            "model need one GPU. Queue the run for a worker with one GPU, or without the filter."
        )
    if ":" in config.device:
        raise ValueError(f"{asked}, and {config.device} is one. Choose device auto.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device != "cpu" and (count or config.device != "auto") and count < gpus:
        raise ValueError(f"{asked}, but PyTorch sees {count}. Start it with at most so many.")


def read_task(folder: Path) -> tuple[Claim, str]:
    """The claim, and the folder of the run's model."""
    task = json.loads((folder / TASK).read_text())
    created_at = datetime.fromisoformat(task["claim"]["created_at"])
    return Claim(**{**task["claim"], "created_at": created_at}), task["location"]


def write_result(folder: Path, rank: int, result: dict[str, Any]) -> None:
    """Leave how a process ended, for the worker that started it."""
    unfinished = folder / f".rank-{rank}"
    unfinished.write_text(json.dumps({**result, "at": time.time()}))
    unfinished.replace(folder / f"rank-{rank}.json")


def read_results(folder: Path, ranks: range) -> list[dict[str, Any] | None]:
    """How these processes ended; None: without a word."""
    files = [folder / f"rank-{rank}.json" for rank in ranks]
    return [json.loads(file.read_text()) if file.exists() else None for file in files]


def _environment(config: TrainConfig, gpus: int, meeting: Meeting | None = None) -> dict[str, str]:
    environment = {
        **os.environ,
        # Else a package of the user's in the current folder could come before ours.
        "PYTHONSAFEPATH": "1",
        # torchrun would give each process one thread.
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // gpus)),
    }
    if config.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if meeting is not None and meeting.interface is not None:
        # By a host's name they would find its own loopback on many machines.
        environment.setdefault("GLOO_SOCKET_IFNAME", meeting.interface)
        environment.setdefault("NCCL_SOCKET_IFNAME", f"={meeting.interface}")
    return environment


def _start(
    run_id: int,
    folder: Path,
    gpus: int,
    environment: dict[str, str],
    meeting: Meeting | None = None,
) -> "subprocess.Popen[bytes]":
    place = ["--standalone"]
    if meeting is not None:
        place = [f"--nnodes={meeting.seats}", f"--node-rank={meeting.seat}"]
        place += [f"--master-addr={meeting.host}", f"--master-port={meeting.port}"]
    command = [
        *(sys.executable, "-P", "-m", "torch.distributed.run", *place),
        *(f"--nproc-per-node={gpus}", "--max-restarts=0"),
        *("--module", "worker.ranks", str(run_id), str(folder)),
    ]
    return subprocess.Popen(  # noqa: S603 - the command is ours
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # the terminal's Ctrl-C reaches this worker alone
        preexec_fn=bind_to_parent(signal.SIGKILL),
    )


def _wait(
    torchrun: "subprocess.Popen[bytes]",
    control: Control,
    watch: Watch,
    is_lost: Callable[[], bool] | None = None,
) -> RunStoppedError | None:
    """Return once all processes have ended; why they were asked to, if they were.

    Raises:
        RanksLostError: they are stuck.
    """
    stop: RunStoppedError | None = None
    ends = float("inf")
    while torchrun.poll() is None and time.monotonic() < ends:
        try:
            if stop is None:
                control.check()
        except RunInterruptedError as error:
            stop = error
            _ask_to_stop(torchrun)
        except RunCancelledError as error:
            stop, ends = error, time.monotonic() + CANCEL_SECONDS  # the first rank sees it itself
        if is_lost is not None and is_lost():
            ends, is_lost = min(ends, time.monotonic() + LOST_SECONDS), None
        stuck = watch.look()
        if stuck is not None and not isinstance(stop, RunCancelledError):
            raise RanksLostError(f"processes of the run are stuck: {stuck}")
        time.sleep(POLL_SECONDS)
    return stop


def _ask_to_stop(torchrun: "subprocess.Popen[bytes]") -> None:
    """They write a checkpoint after their step. torchrun itself would only wait for 30 seconds."""
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(torchrun.pid).children():
            process.send_signal(signal.SIGTERM)


def _kill(torchrun: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(torchrun.pid, signal.SIGKILL)
    torchrun.wait()


def _result(
    folder: Path,
    gpus: int,
    status: int,
    stop: RunStoppedError | None,
    others: Others | None = None,
) -> dict[str, Any]:
    results = read_results(folder, range(gpus))
    first = results[0]
    if first is not None and first["status"] == "succeeded":
        summary: dict[str, Any] = first["summary"]
        return summary
    for kind in STOPS:
        if first is not None and first["status"] == kind.__name__:
            raise kind(first["message"])
    if others is not None:
        results += others.results()
    failed = [one for one in results if one is not None and one["status"] == "failed"]
    # Those that only found another one gone do not tell why.
    own = [one for one in failed if not one["lost_another"]]
    if own:
        raise RankFailedError(min(own, key=lambda one: one["at"])["error"])
    if stop is not None:
        raise stop
    silent = [str(rank) for rank, one in enumerate(results) if one is None]
    raise RanksLostError(
        f"processes of the run ended without a word: {', '.join(silent) or 'none'} of "
        f"{len(results)} (status {status})"
    )
