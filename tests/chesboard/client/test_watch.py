"""`chesboard.watch`: a loop of one's own is recorded, and nothing that goes wrong stops it."""

import json
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import chesboard
from chesboard.client import checkpoint
from chesboard.client.spool import files
from chesboard.client.sync import sync
from chesboard.client.wire import Wire
from chesboard.probing.observer import ProbeObserver
from chesboard.record_json import from_json
from chesboard.records import MetricRecord, ProbeStepRecord
from tests.chesboard.client.wire_server import wire_server
from tests.tiny_models import load, random_pairs

PAIRS = random_pairs(3)


def records(folder: Path) -> list[Any]:
    """Of all files of a run, in their order."""
    lines = [json.loads(line) for path in files(folder) for line in path.open()]
    return [from_json(line["record"]) for line in lines if "record" in line]


def watched(loaded, folder, **settings: Any) -> Any:
    settings = {"mode": "offline", "probe_every": 2, **settings}
    return chesboard.watch(loaded.model, loaded.tokenizer, PAIRS, output_dir=folder, **settings)


def train(loaded, watch, steps: range, optimizer=None) -> None:
    optimizer = optimizer or torch.optim.SGD(loaded.model.parameters(), 1e-2)
    ids = torch.arange(8)[None]
    for step in steps:
        loss = loaded.model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        watch.step(step, {"loss": loss, "margin": 0.5, "grad/layer 3": 2})


def spool_of(folder: Path, watch) -> Path:
    return folder / "chesboard" / watch.key


def test_a_loop_of_ones_own_is_recorded(tmp_path) -> None:
    loaded = load()
    with watched(loaded, tmp_path, name="mine", config={"trainer": "a loop", "lr": math.nan}) as w:
        train(loaded, w, range(1, 6))
    found = records(spool_of(tmp_path, w))
    metrics = [one for one in found if isinstance(one, MetricRecord)]
    assert [one.step for one in metrics] == [1, 2, 3, 4, 5]
    assert metrics[0].margin == 0.5
    assert metrics[0].extra == {"grad/layer 3": 2.0}
    looks = [one for one in found if isinstance(one, ProbeStepRecord)]
    assert sorted({one.step for one in looks}) == [0, 2, 4, 5], "the last step too"
    lines = [json.loads(line) for line in files(spool_of(tmp_path, w))[0].open()]
    body, ended = lines[0]["run"], lines[-1]["finish"]
    assert (body["name"], body["config"]["trainer"]) == ("mine", "a loop")
    assert body["config"]["lr"] is None, "JSON has no NaN"
    assert body["config"]["probes"][1]["preferred_ids"] == PAIRS[1].preferred_ids
    assert ended["status"] == "succeeded"
    assert ended["summary"]["steps"] == 5
    assert ended["summary"]["forward"] == "shared prefix"
    assert len(ended["summary"]["probes"]) == 3
    assert w.failures == 0


def test_the_probes_are_what_the_library_measures(tmp_path) -> None:
    """The very records of `ProbeObserver`, at the same weights."""
    from chesboard.configs import TrainConfig
    from chesboard.forward.ready import ready_forward
    from tests.tiny_models import GoOn, KeepingReporter

    loaded = load()
    watch = watched(loaded, tmp_path)
    reporter = KeepingReporter()
    forward = ready_forward(loaded, PAIRS, reporter)
    ProbeObserver(loaded, forward, PAIRS, TrainConfig(), reporter, GoOn()).begin()
    found = [one for one in records(spool_of(tmp_path, watch)) if isinstance(one, ProbeStepRecord)]
    assert found == reporter.probe_steps
    watch.finish()


@pytest.mark.parametrize(
    "pair",
    [
        chesboard.Pair("Is it?", " Yes", " No"),
        {"prompt": "Is it?", "chosen": " Yes", "rejected": " No"},
        {"prompt": "Is it?", "preferred": " Yes", "dispreferred": " No"},
        {"prompt_ids": [41, 42], "chosen_ids": [1, 2], "rejected_ids": [1, 3]},
        {
            "chosen_input_ids": [41, 42, 1, 2], "chosen_labels": [-100, -100, 1, 2],
            "rejected_input_ids": [41, 42, 1, 3], "rejected_labels": [-100, -100, 1, 3],
        },
    ],
)  # fmt: skip
def test_pairs_are_given_as_texts_or_as_tokens(tmp_path, pair) -> None:
    loaded = load()
    watch = chesboard.watch(
        loaded.model, loaded.tokenizer, [pair], mode="offline", output_dir=tmp_path
    )
    looks = [o for o in records(spool_of(tmp_path, watch)) if isinstance(o, ProbeStepRecord)]
    assert [one.pair for one in looks] == [0]
    assert watch.failures == 0
    watch.finish()


# --- going on from a checkpoint -------------------------------------------------------------------


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path) -> None:
    kept = []
    for is_killed in (False, True):
        loaded, folder = load(), tmp_path / str(is_killed)
        folder.mkdir()
        watch = watched(loaded, folder)
        if not is_killed:
            train(loaded, watch, range(1, 9))
        else:
            train(loaded, watch, range(1, 5))
            weights = {name: one.clone() for name, one in loaded.model.state_dict().items()}
            watch.save(folder, 4)
            train(loaded, watch, range(5, 7))  # and is killed: what it saw is trained again
            del watch
            loaded.model.load_state_dict(weights)
            watch = watched(loaded, folder, resume=folder)
            train(loaded, watch, range(5, 9))
        watch.finish()
        with wire_server() as server:
            wire = Wire(server.url, None)
            [one] = sync(folder, wire, watch=False, say=print)
            assert one.problem is None
            kept.append((server.only.attempt, server.only.records, server.only.looks))
    assert (kept[0][0], kept[1][0]) == (1, 2)
    assert kept[0][2] == [0, 2, 4, 6, 8]
    assert kept[1][1] == kept[0][1], "each step once, equal to an undisturbed run"


def test_a_checkpoint_without_its_file_begins_a_new_run(tmp_path, caplog) -> None:
    loaded = load()
    watch = watched(loaded, tmp_path, resume=tmp_path, resumed_step=7)
    assert "holds no chesboard.safetensors" in caplog.text
    train(loaded, watch, range(8, 9))
    watch.finish()
    assert watch.failures == 0


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_file_in_a_checkpoint_is_none(tmp_path, content) -> None:
    (tmp_path / checkpoint.FILE).write_bytes(content)
    assert checkpoint.read(tmp_path) is None


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "example.org", "mode": "online"}, "does not begin with http"),
        ({"mode": "sometimes"}, "online or offline"),
        ({"probing": 3}, "no argument probing"),
        ({"ledger_top": 0}, "ledger_top"),
        ({"output_dir": "/proc/nowhere"}, "writing records failed"),
    ],
)
def test_a_wrong_setting_is_said_and_stops_nothing(tmp_path, caplog, settings, said) -> None:
    loaded = load()
    watch = chesboard.watch(
        loaded.model, loaded.tokenizer, PAIRS, **{"output_dir": tmp_path, **settings}
    )
    train(loaded, watch, range(1, 4))
    watch.save(tmp_path, 3)
    watch.finish()
    assert said in caplog.text
    assert watch.failures == 1
    assert watch.url is None
    assert not watch.cancel_requested


def test_a_look_that_fails_is_logged_once_and_counted(tmp_path, monkeypatch, caplog) -> None:
    loaded = load()
    watch = watched(loaded, tmp_path, probe_every=1)

    def fail(*_: object) -> None:
        torch.rand(1)
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(ProbeObserver, "observe", fail)
    loaded.model.train()
    train(loaded, watch, range(1, 6))
    assert watch.failures == 5
    assert len([one for one in caplog.messages if "no room" in one]) == 1
    assert loaded.model.training
    watch.finish()
    assert [one.step for one in records(spool_of(tmp_path, watch)) if isinstance(one, MetricRecord)]


def test_a_full_disk_stops_nothing(tmp_path, monkeypatch, caplog) -> None:
    loaded = load()
    watch = watched(loaded, tmp_path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    train(loaded, watch, range(1, 4))
    monkeypatch.undo()
    watch.finish()
    assert len([one for one in caplog.messages if "No space left" in one]) <= 3
    assert watch.failures > 0


def test_a_pair_that_the_model_cannot_read_is_left_out(tmp_path, caplog) -> None:
    loaded = load()
    beyond = {"prompt_ids": [1], "chosen_ids": [5000], "rejected_ids": [2]}
    watch = chesboard.watch(
        loaded.model, loaded.tokenizer, [beyond, PAIRS[0]], mode="offline", output_dir=tmp_path
    )
    assert "no embedding" in caplog.text
    assert [one.pair for one in records(spool_of(tmp_path, watch)) if hasattr(one, "ledger")] == [0]
    watch.finish()


def test_what_is_said_stands_on_the_page_while_the_training_goes_on(
    tmp_path, server, monkeypatch
) -> None:
    loaded = load()
    long = chesboard.Pair("Is it so, and if not, why?", " Yes" * 9, " No")
    beyond = {"prompt_ids": [1], "chosen_ids": [5000], "rejected_ids": [2]}
    settings = {"url": server.url, "output_dir": tmp_path, "max_response_tokens": 4}
    watch = chesboard.watch(loaded.model, loaded.tokenizer, [beyond, long], **settings)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(ProbeObserver, "observe", fail)
    watch.look(10)
    deadline = time.monotonic() + 10
    while len(server.only.messages if server.runs else ()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    left_out, cut, failed = server.only.messages
    assert server.only.status == "running"
    assert "Not watched: The model has no embedding" in left_out
    assert "Pair 1 is too long" in cut
    assert "of its preferred response" in cut
    assert "look failed, and the training goes on: OutOfMemoryError: no room" in failed
    watch.finish()


def test_a_run_has_a_most_of_pairs(tmp_path) -> None:
    """More of them, and the server would refuse the run."""
    loaded = load()
    pairs = [chesboard.Pair(f"Is it {k}?", " Yes", " No") for k in range(70)]
    watch = chesboard.watch(
        loaded.model, loaded.tokenizer, pairs, mode="offline", output_dir=tmp_path
    )
    looks = [o for o in records(spool_of(tmp_path, watch)) if isinstance(o, ProbeStepRecord)]
    assert [one.pair for one in looks] == list(range(64))
    watch.finish()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("out of luck"), "failed", "ValueError: out of luck"),
        (KeyboardInterrupt(), "cancelled", "Interrupted from the keyboard."),
        (None, "failed", "The process ended before it said that the training had."),
    ],
)
def test_how_a_process_ends_is_how_its_run_does(tmp_path, monkeypatch, error, status, said) -> None:
    """What the interpreter does at its exit is done by hand, where it keeps what ended it."""
    registered: list[Any] = []
    monkeypatch.setattr("chesboard.client.watch.atexit.register", registered.append)
    loaded = load()
    watch = watched(loaded, tmp_path)
    monkeypatch.setattr(sys, "last_value", error, raising=False)
    [at_exit] = registered
    at_exit()
    lines = [json.loads(line) for line in files(spool_of(tmp_path, watch))[0].open()]
    assert (lines[-1]["finish"]["status"], lines[-1]["finish"]["error"]["message"]) == (
        status,
        said,
    )


def test_a_forked_process_says_nothing_of_the_run(tmp_path, monkeypatch) -> None:
    """A worker of a DataLoader that exits is not the training's end."""
    registered: list[Any] = []
    monkeypatch.setattr("chesboard.client.watch.atexit.register", registered.append)
    watch = watched(load(), tmp_path)
    monkeypatch.setattr("chesboard.client.watch.os.getpid", lambda: -1)
    registered[0]()
    monkeypatch.undo()
    lines = [json.loads(line) for line in files(spool_of(tmp_path, watch))[0].open()]
    assert "finish" not in lines[-1]
    watch.finish()


def test_what_is_said_stays_out_of_the_log_where_it_was_said(tmp_path, caplog) -> None:
    caplog.set_level(logging.WARNING)
    loaded = load()
    watch = watched(loaded, tmp_path)
    train(loaded, watch, range(1, 4))
    watch.finish()
    watch.finish()  # a second time: nothing
    assert len([one for one in caplog.messages if "chesboard sync" in one]) == 1
