"""One of the processes that train a model together: `torchrun --module worker.ranks RUN FOLDER`.

The first does what a worker of one process does: it reads the pairs, keeps the lease and records.
The others follow it: they get the pairs from it, and report nothing. FOLDER: where
`worker.launching` left the task, and finds how each process ended.
"""

import logging
import os
import re
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from app.core import logging as logs
from app.core.database import limit_idle_transactions
from app.core.orphans import end_with_parent
from app.core.settings import get_settings
from app.store.leases import Claim
from chesboard.configs import ModelConfig, TrainConfig
from chesboard.model import LoadedModel
from chesboard.reporting import RunInterruptedError, RunStoppedError
from chesboard.sharding import agreed
from worker.execution import work
from worker.launching import read_task, write_result
from worker.lease_keeper import LeaseKeeper, shutting_down
from worker.memory import keep_freed_memory
from worker.models.cache import ModelCache
from worker.models.progress import OnPhase, ignore_phase
from worker.models.sharded import load_sharded
from worker.preparing import describe_error, is_failure
from worker.pulse import Marking, Pulse
from worker.recorder import Recorder
from worker.silent import Silent
from worker.template_bounds import bounded_templates
from worker.training.execution import train_prepared

log = logging.getLogger(__name__)

TIMEOUT = timedelta(hours=2)
"""How long a process may wait for another, which may be tokenizing all pairs. One that is gone is
noticed at once, and one that is stuck by the worker (`worker.pulse`)."""

_LOST_ANOTHER = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE
)


def main() -> None:
    run_id, folder = int(sys.argv[1]), Path(sys.argv[2])
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGTERM, lambda *_: shutting_down.set())
    rank = int(os.environ["RANK"])  # torchrun's
    settings = get_settings()
    logs.configure(settings, f"rank {rank}")
    keep_freed_memory()
    limit_idle_transactions(settings.lease)
    pulse = Pulse(folder, rank)
    pulse.start()
    with logs.working_on(run_id):
        result = _attempt(folder, pulse)
    write_result(folder, rank, result)
    pulse.end()
    is_stopped = rank == 0 and result["status"] not in ("succeeded", "failed")
    if result["status"] == "failed" or (is_stopped and torch.cuda.is_available()):
        # Others may wait for this one in vain: NCCL does not tell them that it is gone, but
        # torchrun ends them. The first ends last where all were told to stop.
        sys.stderr.flush()
        os._exit(1)
    dist.destroy_process_group()


def _attempt(folder: Path, pulse: Pulse) -> dict[str, Any]:
    try:
        claim, location = read_task(folder)
        _join()
        first = dist.get_rank() == 0
        train = _lead if first else _follow
        return {"status": "succeeded", "summary": train(claim, location, pulse)}
    except RunStoppedError as error:
        return {"status": type(error).__name__, "message": str(error)}
    except BaseException as error:
        if not is_failure(error):
            raise
        lost_another = _has_lost_another(error)
        if not lost_another:
            log.exception("a process of the run failed")
        return {"status": "failed", "error": describe_error(error), "lost_another": lost_another}


def _join() -> None:
    """Meet the other processes; each takes the GPU of its number, if there are GPUs."""
    # Autocast would keep a rounded copy of every gathered weight until the pass has ended.
    torch.set_autocast_cache_enabled(False)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        # Both: what is agreed on goes over the CPU, and waits for no GPU.
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=TIMEOUT)
    else:
        dist.init_process_group("gloo", timeout=TIMEOUT)


def _lead(claim: Claim, location: str, pulse: Pulse) -> dict[str, Any]:
    with (
        LeaseKeeper(claim.run_id, claim.token) as keeper,
        Recorder(claim.run_id, claim.token) as recorder,
        bounded_templates(keeper.check),
    ):
        control = Marking(keeper, pulse)
        control.check()
        summary = work(claim, recorder, control, _ShardedModels(location))
        with pulse.busy():
            recorder.flush()
        return summary


def _follow(claim: Claim, location: str, pulse: Pulse) -> None:
    config = TrainConfig.model_validate(claim.config)
    loaded = load_sharded(config, location, lambda *_: pulse.mark())
    prepared = agreed(None)
    loaded = replace(loaded, tokenizer=prepared.tokenizer)
    train_prepared(claim.run_id, config, loaded, prepared, Silent(), Marking(_Signalled(), pulse))


class _ShardedModels(ModelCache):
    """Models of which each process loads a part, and keeps none."""

    def __init__(self, location: str) -> None:
        super().__init__(get_settings())
        self._location = location

    def load(self, config: ModelConfig, on_phase: OnPhase = ignore_phase) -> LoadedModel:
        return load_sharded(config, self._location, on_phase)


class _Signalled:
    """The Control of a process that has no lease."""

    def check(self) -> None:
        if shutting_down.is_set():
            raise RunInterruptedError("the worker is shutting down")


def _has_lost_another(error: BaseException) -> bool:
    """Whether a collective failed because another process is gone."""
    is_own = isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError)
    return not is_own and bool(_LOST_ANOTHER.search(str(error)))


if __name__ == "__main__":
    main()
