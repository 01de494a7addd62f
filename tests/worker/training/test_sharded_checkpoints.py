"""Checkpoints of two processes that see the run's folder as two machines do."""

import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from chesboard.probing.probes import ProbeState
from tests.processes import run_in_processes
from worker.training import checkpoints, sharded_checkpoints
from worker.training.checkpoints import Progress, RandomState
from worker.training.sharing import Ranks

CPU = torch.device("cpu")
PROGRESS = Progress(step=3, tokens_seen=100, seconds=1.0, loss=0.5, margin=0.1)

needs_gloo = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")


def state(value: float) -> tuple[dict[str, torch.nn.Parameter], torch.optim.Optimizer]:
    parameters = {
        name: torch.nn.Parameter(torch.full((4, 3), value + place))
        for place, name in enumerate("abcd")
    }
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.0)
    for parameter in parameters.values():
        parameter.grad = torch.full_like(parameter, value)
    optimizer.step()
    return parameters, optimizer


def write_and_read(rank: int, folder: str) -> None:
    ranks, own, other = Ranks(rank, 2), Path(folder) / str(rank), Path(folder) / str(1 - rank)
    random_state, probes = RandomState.capture(CPU), ProbeState({}, {})
    checkpoints.write(own, *state(1.0), random_state, PROGRESS, probes, {}, ranks)
    dist.barrier()
    # Each machine sees its own files at once, and the other's later.
    assert [path.name for path in own.rglob("*") if path.name == checkpoints.FILE] == (
        [checkpoints.FILE] if rank == 0 else []
    )
    assert not checkpoints.exists(own)  # the first does not see all that it names
    dist.barrier()
    if rank == 0:
        shutil.copytree(other, own, dirs_exist_ok=True)
    dist.barrier()
    assert checkpoints.exists(own)  # which the first says for all
    appears = threading.Timer(
        0.5, lambda: shutil.copytree(other, own, dirs_exist_ok=True) if rank == 1 else None
    )
    appears.start()
    parameters, optimizer = state(7.0)
    progress, _, _ = checkpoints.read(own, parameters, optimizer, CPU, {}, ranks)
    appears.join()
    assert progress == PROGRESS
    expected, of_optimizer = state(1.0)
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter, expected[name], rtol=0, atol=0)
        found = optimizer.state[parameter]["exp_avg"]
        wanted = of_optimizer.state[expected[name]]["exp_avg"]
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@needs_gloo
def test_files_of_another_machine_are_named_before_and_read_once_they_are_seen(
    tmp_path: Path,
) -> None:
    run_in_processes(write_and_read, str(tmp_path))


def test_a_checkpoint_that_is_never_seen_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded_checkpoints, "SEEN_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(FileNotFoundError, match="not seen on this machine"):
        sharded_checkpoints.wait_until_seen(tmp_path, "state.safetensors", lambda _: [])
    assert time.monotonic() - began >= 0.2
