"""Functions that several processes run together (gloo, on the CPU), and those of a training run."""

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import pytest
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

MOST_SECONDS = 300


def run_in_processes(work: Callable[..., None], *arguments: Any, count: int = 2) -> None:
    """Call `work(rank, *arguments)` in each of so many processes of one group."""
    port = random.SystemRandom().randrange(10_000, 30_000)  # below those given to connections
    # Forked from a server that has imported torch and used no thread of it: a process that has
    # would leave its children locks that nobody opens.
    multiprocessing.set_forkserver_preload(["chesboard.client", "tests.tiny_models"])
    context = start_processes(
        _joined, (work, port, count, arguments), count, join=False, start_method="forkserver"
    )
    assert context is not None
    ends = time.monotonic() + MOST_SECONDS
    while not context.join(timeout=1):
        if time.monotonic() > ends:
            for process in context.processes:
                process.kill()
            pytest.fail(f"not done after {MOST_SECONDS} s")


def _joined(
    rank: int, work: Callable[..., None], port: int, count: int, arguments: tuple[Any, ...]
) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=count)
    work(rank, *arguments)
    dist.destroy_process_group()


def ranks_of(worker: psutil.Process) -> dict[int, psutil.Process]:
    """The processes that train a model for a worker, by their rank."""
    found = {}
    for process in worker.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "worker.ranks" in process.cmdline() and (rank := process.environ().get("RANK")):
                found[int(rank)] = process
    return found
