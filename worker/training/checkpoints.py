"""Checkpoints: a training run's state in one safetensors file (no pickle), written atomically."""

import contextlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Parameter

from chesboard.configs import TrainConfig
from chesboard.probing.probes import ProbeState
from worker import disk

FOLDER = "checkpoint"
FILE = "state.safetensors"
VERSION = 2

SHARE_OF_TIME = 1 / 50
"""Share of a run's time that writing checkpoints may take, if `checkpoint_every` is not set."""

LEAST_SECONDS = 2.0
"""Least time between two such checkpoints, however small they are."""

FIRST_GUESS_BYTES_PER_SECOND = 500e6
"""Assumed write speed (an ordinary SSD) until a write was measured."""


class CheckpointMismatchError(ValueError):
    """The checkpoint belongs to another configuration or model."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the run. The position in the data follows from the step and the seed."""

    step: int
    tokens_seen: int
    seconds: float
    loss: float
    """Of the last step; may be NaN."""
    margin: float
    calibration: list[float] | None = None
    """The fields of a `chesboard.calibration.Calibration`, where the run has one."""


@dataclass(frozen=True, slots=True)
class RandomState:
    """States of the random generators that a training step draws from (adapters' dropout)."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def capture(cls, device: torch.device) -> "RandomState":
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), cuda)

    def restore(self, device: torch.device) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.cuda, device)


class CheckpointSchedule:
    """When the next checkpoint is due, if the run's configuration does not set it.

    A worker may die at any moment, so every run has checkpoints, and a run that loses its worker
    repeatedly must still progress: a small model's state is written every LEAST_SECONDS, a large
    one's as often as SHARE_OF_TIME allows.
    """

    def __init__(self, state_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cost = state_bytes / FIRST_GUESS_BYTES_PER_SECOND
        self._since = clock()

    def is_due(self) -> bool:
        return self._clock() - self._since >= max(LEAST_SECONDS, self._cost / SHARE_OF_TIME)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Wraps a write; its duration determines when the next one is due."""
        began = self._clock()
        yield
        self._since = self._clock()
        self._cost = self._since - began


def exists(folder: Path) -> bool:
    return (folder / FOLDER / FILE).is_file()


def remove(folder: Path) -> None:
    """Delete the checkpoint of a finished run."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def write(
    folder: Path,
    parameters: Mapping[str, Parameter],
    optimizer: torch.optim.Optimizer,
    random_state: RandomState,
    progress: Progress,
    probes: ProbeState,
    config: Mapping[str, Any],
) -> None:
    """Write the state to `folder`/checkpoint, replacing an earlier one.

    Contains the trained parameters, the optimizer's state of each, the random generators, the
    progress, and the probes' state. The learning rate follows from the step.

    Raises:
        DiskFullError: it does not fit; the earlier one is kept.
    """
    tensors = _optimizer_tensors(parameters, optimizer)
    tensors.update({f"parameter.{name}": p.detach() for name, p in parameters.items()})
    tensors["random.cpu"] = random_state.cpu
    if random_state.cuda is not None:
        tensors["random.cuda"] = random_state.cuda
    tensors.update({f"probe.{name}": tensor for name, tensor in probes.tensors.items()})
    described = {
        "version": VERSION,
        "progress": asdict(progress),
        "config": config,
        "probes": probes.described,
    }
    _replace(
        folder / FOLDER / FILE,
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        {"chesboard": json.dumps(described)},
    )


def _optimizer_tensors(
    parameters: Mapping[str, Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    tensors = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{key}.{name}"] = value
    return tensors


def _replace(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{random.getrandbits(32):08x}")
    size = sum(tensor.nbytes for tensor in tensors.values())
    try:
        with disk.writing(f"a checkpoint of {size / 2**20:,.0f} MiB", path.parent):
            save_file(tensors, unfinished, metadata=metadata)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def read(
    folder: Path,
    parameters: Mapping[str, Parameter],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    config: Mapping[str, Any],
) -> tuple[Progress, RandomState, ProbeState]:
    """Load parameters and optimizer state in place from `folder`/checkpoint; return the rest.

    Raises:
        CheckpointMismatchError: it was written with another configuration or for another model.
    """
    with safe_open(folder / FOLDER / FILE, framework="pt", device=str(device)) as file:
        described = json.loads(file.metadata()["chesboard"])
        names = set(file.keys())
        saved = {name.removeprefix("parameter.") for name in names if name.startswith("parameter.")}
        # An earlier version wrote checkpoints without the settings that are new since.
        defaults = TrainConfig().model_dump(mode="json")
        is_same = defaults | described["config"] == defaults | dict(config)
        if described["version"] != VERSION or not is_same:
            raise CheckpointMismatchError(
                f"The checkpoint in {folder.name} belongs to another configuration. "
                "Start a new run."
            )
        if saved != set(parameters):
            raise CheckpointMismatchError(
                f"The checkpoint in {folder.name} belongs to another model. Start a new run."
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(file.get_tensor(f"parameter.{name}"))
        _restore_optimizer(file, names, parameters, optimizer)
        random_state = RandomState(
            file.get_tensor("random.cpu").cpu(),
            file.get_tensor("random.cuda").cpu() if "random.cuda" in names else None,
        )
        probes = ProbeState(
            {
                name.removeprefix("probe."): file.get_tensor(name).cpu()
                for name in names
                if name.startswith("probe.")
            },
            described["probes"],
        )
    return Progress(**described["progress"]), random_state, probes


def _restore_optimizer(
    file: Any,
    names: set[str],
    parameters: Mapping[str, Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    fused = any(group.get("fused") for group in optimizer.param_groups)
    for full_name in sorted(names):
        if not full_name.startswith("optimiser."):
            continue
        _, key, name = full_name.split(".", 2)
        value = file.get_tensor(full_name)
        if key == "step" and not fused:
            value = value.cpu()  # torch keeps the step count on the CPU unless fused
        optimizer.state[parameters[name]][key] = value
