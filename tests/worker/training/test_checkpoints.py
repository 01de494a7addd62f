import resource
from contextlib import contextmanager

import pytest
import torch
from torch.nn import Parameter

from chesboard.configs import TrainConfig
from chesboard.probing.probes import ProbeState
from worker import disk
from worker.training import checkpoints, sharded_checkpoints
from worker.training.checkpoints import CheckpointMismatchError, Progress, RandomState
from worker.training.optim import make_optimizer
from worker.training.sharing import ALONE, Ranks

CPU = torch.device("cpu")
PROGRESS = Progress(step=5, tokens_seen=100, seconds=2.5, loss=float("nan"), margin=0.1)


def make_state(optimizer="adamw", seed=0, shape=(3, 2)):
    torch.manual_seed(seed)
    parameters = {"a.weight": Parameter(torch.randn(shape)), "a.bias": Parameter(torch.randn(2))}
    optimizer = make_optimizer(
        parameters.values(), TrainConfig(optimizer=optimizer, learning_rate=0.1)
    )
    return parameters, optimizer


def step(parameters, optimizer):
    for parameter in parameters.values():
        parameter.grad = parameter.detach().sin()
    optimizer.step()


def write(folder, parameters, optimizer, config=None, ranks=ALONE):
    probes = ProbeState({"3.fork.initial": torch.tensor([0.25, 0.75])}, {"3": {"onset_step": 2}})
    checkpoints.write(
        folder,
        parameters,
        optimizer,
        RandomState.capture(CPU),
        PROGRESS,
        probes,
        config or {},
        ranks,
    )


@pytest.mark.parametrize("name", ["adamw", "rmsprop", "sgd"])
def test_optimizer_goes_on_as_if_undisturbed(tmp_path, name):
    parameters, optimizer = make_state(name)
    step(parameters, optimizer)
    write(tmp_path, parameters, optimizer)
    step(parameters, optimizer)
    others, other_optimizer = make_state(name, seed=1)
    checkpoints.read(tmp_path, others, other_optimizer, CPU, {})
    step(others, other_optimizer)
    for key, parameter in parameters.items():
        assert torch.equal(parameter, others[key])


def test_progress_probes_and_random_numbers_come_back(tmp_path):
    parameters, optimizer = make_state()
    write(tmp_path, parameters, optimizer)
    expected = torch.rand(3)
    progress, random_state, probes = checkpoints.read(tmp_path, parameters, optimizer, CPU, {})
    random_state.restore(CPU)
    assert torch.equal(torch.rand(3), expected)
    assert (progress.step, progress.tokens_seen, progress.seconds) == (5, 100, 2.5)
    assert progress.loss != progress.loss
    assert probes.tensors["3.fork.initial"].tolist() == [0.25, 0.75]
    assert probes.described == {"3": {"onset_step": 2}}


@pytest.mark.parametrize("ranks", [ALONE, Ranks(0, 2)])
def test_what_killed_processes_left_is_removed_before_more_is_written(tmp_path, monkeypatch, ranks):
    parameters, optimizer = make_state()
    write(tmp_path, parameters, optimizer)
    folder = tmp_path / checkpoints.FOLDER
    (folder / f".{checkpoints.FILE}.7.0123abcd").write_bytes(b"half")
    (folder / "step-3-0123abcd" / "parts").mkdir(parents=True)
    (folder / "step-4-4567cdef").mkdir()
    (folder / "step-4-4567cdef" / checkpoints.FILE).write_bytes(b"whole")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", fail)
    monkeypatch.setattr(sharded_checkpoints, "begin", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, parameters, optimizer, ranks=ranks)
    assert {path.name for path in folder.iterdir()} == {checkpoints.FILE, "step-4-4567cdef"}


def test_failed_write_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    parameters, optimizer = make_state()
    write(tmp_path, parameters, optimizer)
    kept = parameters["a.bias"].detach().clone()
    step(parameters, optimizer)

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, parameters, optimizer)
    others, other_optimizer = make_state(seed=1)
    checkpoints.read(tmp_path, others, other_optimizer, CPU, {})
    assert torch.equal(others["a.bias"], kept)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["state.safetensors"]


@contextmanager
def largest_file(size):
    """How large a file may get, which the kernel minds as it minds a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0.0, 0.01, 0.5, 0.999])
def test_a_disk_that_runs_full_leaves_the_earlier_checkpoint_and_is_named(tmp_path, room):
    parameters, optimizer = make_state(shape=(100, 100))
    step(parameters, optimizer)
    write(tmp_path, parameters, optimizer)
    file = tmp_path / "checkpoint" / "state.safetensors"
    before = file.read_bytes()
    step(parameters, optimizer)
    with (
        largest_file(int(room * len(before))),
        pytest.raises(disk.DiskFullError, match=r"no room for a checkpoint of 0 MiB.*MiB left"),
    ):
        write(tmp_path, parameters, optimizer)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_cannot_be_written_for_another_reason_is_no_full_disk(tmp_path):
    with pytest.raises(IsADirectoryError), disk.writing("it", tmp_path):
        tmp_path.open("w")


def test_small_checkpoints_come_often_and_large_ones_as_often_as_their_time_allows():
    now = 0.0
    small = checkpoints.CheckpointSchedule(state_bytes=1000, clock=lambda: now)
    large = checkpoints.CheckpointSchedule(state_bytes=10**9, clock=lambda: now)
    now = 2.0
    assert small.is_due()
    assert not large.is_due()
    now = 100.0  # 50 times what a gigabyte may take
    assert large.is_due()
    with large.writing():
        now = 110.0
    now = 609.0
    assert not large.is_due()
    now = 610.0
    assert large.is_due()


def test_checkpoint_of_another_configuration_is_refused(tmp_path):
    parameters, optimizer = make_state()
    write(tmp_path, parameters, optimizer, {"beta": 0.1})
    with pytest.raises(CheckpointMismatchError, match="another configuration"):
        checkpoints.read(tmp_path, parameters, optimizer, CPU, {"beta": 0.2})


def test_checkpoint_of_another_model_is_refused(tmp_path):
    parameters, optimizer = make_state()
    write(tmp_path, parameters, optimizer)
    parameters["b"] = parameters.pop("a.bias")
    with pytest.raises(CheckpointMismatchError, match="another model"):
        checkpoints.read(tmp_path, parameters, optimizer, CPU, {})


def test_removed_checkpoint_is_gone(tmp_path):
    assert not checkpoints.exists(tmp_path)
    write(tmp_path, *make_state())
    assert checkpoints.exists(tmp_path)
    checkpoints.remove(tmp_path)
    checkpoints.remove(tmp_path)
    assert not checkpoints.exists(tmp_path)
