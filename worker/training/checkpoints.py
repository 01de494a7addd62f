"""Checkpoints: a training run's state, written atomically.

One process writes one safetensors file (no pickle). Several write a folder of parts
(`worker.training.sharded_checkpoints`); either is read by any number of processes.
"""

import contextlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
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
from chesboard.sharding import agreed, gathered, part_like
from worker import disk
from worker.training import sharded_checkpoints
from worker.training.sharded_checkpoints import Parts, has_parts, step_folders, wait_until_seen
from worker.training.sharing import ALONE, Ranks

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

    def tensors(self, rank: int | None) -> dict[str, Tensor]:
        """By their names in a checkpoint. rank: of several."""
        ending = "" if rank is None else f".{rank}"
        found = {f"random.cpu{ending}": self.cpu}
        if self.cuda is not None:
            found[f"random.cuda{ending}"] = self.cuda
        return found

    @classmethod
    def of(cls, file: Any, names: Collection[str], ranks: Ranks) -> "RandomState | None":
        """This rank's from a checkpoint; None if so many ranks did not write it."""
        if sum(name.startswith("random.cpu") for name in names) != ranks.count:
            return None
        ending = "" if ranks.is_alone and "random.cpu" in names else f".{ranks.rank}"
        cuda = f"random.cuda{ending}"
        return cls(
            file.get_tensor(f"random.cpu{ending}").cpu(),
            file.get_tensor(cuda).cpu() if cuda in names else None,
        )

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
    """Whether there is one; of several ranks, for the first, which is so for all."""
    return bool(agreed(_newest(folder / FOLDER) is not None))


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
    ranks: Ranks = ALONE,
) -> None:
    """Write the state to `folder`/checkpoint, replacing an earlier one. Of several ranks each
    writes its part of the weights.

    Contains the trained parameters, the optimizer's state of each, the random generators, the
    progress, and the probes' state. The learning rate follows from the step.

    Raises:
        DiskFullError: it does not fit; the earlier one is kept.
    """
    weights = _weights(parameters, optimizer)
    about: dict[str, Tensor] = {f"probe.{name}": tensor for name, tensor in probes.tensors.items()}
    for rank, state in enumerate(gathered(random_state)):
        about |= state.tensors(None if ranks.is_alone else rank)
    described = {
        "version": VERSION,
        "progress": asdict(progress),
        "config": config,
        "probes": probes.described,
    }
    into = folder / FOLDER
    if ranks.is_first:
        _remove_unfinished(into)
    if ranks.is_alone:
        _replace(into / FILE, weights | about, described)
        sharded_checkpoints.remove_all(into)
        return
    numbers = {name: tensor for name, tensor in weights.items() if tensor.ndim == 0}
    parts = {name: tensor for name, tensor in weights.items() if tensor.ndim > 0}
    path = sharded_checkpoints.begin(into, progress.step, parts, ranks)
    names = sharded_checkpoints.part_names(path)
    if ranks.is_first:
        _replace(path / FILE, numbers | about, {**described, "parts": names})
        (into / FILE).unlink(missing_ok=True)
        sharded_checkpoints.remove_all(into, but=path)


def _remove_unfinished(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote. Each may be as large as a
    checkpoint, and a run may lose any number of workers."""
    for path in folder.glob(f".{FILE}.*"):
        path.unlink(missing_ok=True)
    for path in step_folders(folder):
        if not (path / FILE).exists():  # its last, by the first process
            shutil.rmtree(path, ignore_errors=True)


def _weights(
    parameters: Mapping[str, Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """The parameters and the optimizer's state of each, by their names in a checkpoint."""
    tensors = {f"parameter.{name}": p.detach() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{key}.{name}"] = value
    return tensors


def _replace(path: Path, tensors: dict[str, Tensor], described: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{random.getrandbits(32):08x}")
    size = sum(tensor.nbytes for tensor in tensors.values())
    try:
        with disk.writing(f"a checkpoint of {size / 2**20:,.0f} MiB", path.parent):
            whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(whole, unfinished, metadata={"chesboard": json.dumps(described)})
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
    ranks: Ranks = ALONE,
) -> tuple[Progress, RandomState, ProbeState]:
    """Load parameters and optimizer state in place from `folder`/checkpoint; return the rest.

    Written by another number of ranks, it has no states of random generators for these: they
    stay as they are.

    Raises:
        CheckpointMismatchError: it was written with another configuration or for another model.
    """
    path = _same_newest(folder / FOLDER)
    with safe_open(path, framework="pt", device=str(device)) as file:
        described = _described(file)
        # An earlier version wrote checkpoints without the settings that are new since.
        defaults = TrainConfig().model_dump(mode="json")
        is_same = defaults | described["config"] == defaults | dict(config)
        if described["version"] != VERSION or not is_same:
            raise CheckpointMismatchError(
                f"The checkpoint in {folder.name} belongs to another configuration. "
                "Start a new run."
            )
        about = set(file.keys())
        parts = Parts.of(path.parent) if "parts" in described else None
        names = about if parts is None else about | set(parts.sizes)
        saved = {name.removeprefix("parameter.") for name in names if name.startswith("parameter.")}
        if saved != set(parameters):
            raise CheckpointMismatchError(
                f"The checkpoint in {folder.name} belongs to another model. Start a new run."
            )
        if parts is not None:
            _read_parts(parts, parameters, optimizer)
        _read_weights(file, about, parameters, optimizer)
        state = RandomState.of(file, about, ranks) or RandomState.capture(device)
        probes = ProbeState(
            {
                name.removeprefix("probe."): file.get_tensor(name).cpu()
                for name in about
                if name.startswith("probe.")
            },
            described["probes"],
        )
    return Progress(**described["progress"]), state, probes


def _described(file: Any) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(file.metadata()["chesboard"])
    return described


def _same_newest(folder: Path) -> Path:
    """`_newest` of the first rank, as this one sees it."""
    newest = _newest(folder)
    name = agreed(None if newest is None else newest.relative_to(folder))
    assert name is not None, "see exists"
    path: Path = folder / name
    wait_until_seen(path.parent, path.name, _part_names_in)
    return path


def _part_names_in(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as opened:
        names: list[str] = _described(opened).get("parts", [])
    return names


def _newest(folder: Path) -> Path | None:
    """The file that describes the complete checkpoint of the latest step, of one process or of
    several: a run may go from one to the other."""
    found: list[tuple[int, int, Path]] = []
    for path in (folder / FILE, *(one / FILE for one in step_folders(folder))):
        if not path.is_file():
            continue
        with safe_open(path, framework="pt") as file:
            described = _described(file)
        if has_parts(path.parent, described.get("parts", [])):
            found.append((described["progress"]["step"], path.stat().st_mtime_ns, path))
    return max(found)[-1] if found else None


def _read_weights(
    file: Any,
    names: Collection[str],
    parameters: Mapping[str, Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    """From the checkpoint of one process; from that of several what is no part."""
    for full_name in sorted(names):
        kind, _, rest = full_name.partition(".")
        if kind == "parameter":
            parameter = parameters[rest]
            with torch.no_grad():
                parameter.copy_(part_like(file.get_tensor(full_name), parameter))
        elif kind == "optimiser":
            _, _, name = rest.partition(".")
            value = part_like(file.get_tensor(full_name), parameters[name])
            _set_optimizer_state(optimizer, parameters, full_name, value)


def _read_parts(
    parts: Parts, parameters: Mapping[str, Parameter], optimizer: torch.optim.Optimizer
) -> None:
    tensors = {f"parameter.{name}": p.detach() for name, p in parameters.items()}  # in place
    of_optimizer = [name for name in parts.sizes if name.startswith("optimiser.")]
    for full_name in of_optimizer:
        _, _, name = full_name.split(".", 2)
        tensors[full_name] = parts.empty_like(full_name, parameters[name])
    parts.read(tensors)
    for full_name in of_optimizer:
        _set_optimizer_state(optimizer, parameters, full_name, tensors[full_name])


def _set_optimizer_state(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Parameter],
    full_name: str,
    value: Tensor,
) -> None:
    _, key, name = full_name.split(".", 2)
    if key == "step" and not any(group.get("fused") for group in optimizer.param_groups):
        value = value.cpu()  # torch keeps the step count on the CPU unless fused
    optimizer.state[parameters[name]][key] = value
