"""Two processes train by DeepSpeed's ZeRO-3 (gloo, on the CPU): watched, they train the same to the
last bit. Where DeepSpeed is not installed, `tests/packaging/check_versions.sh` runs this."""

import importlib.util
import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

import chesboard
from chesboard.client.spool import files
from chesboard.record_json import from_json
from chesboard.records import ProbeStepRecord
from chesboard.sharding import sharding_of, whole_weight
from tests.chesboard.client.test_sharded import PAIRS, failing, unsharded_look
from tests.chesboard.client.trainings import make_trainer
from tests.processes import run_in_processes
from tests.tiny_models import build_tokenizer, load

STEPS = 4
FAILING_STEP = 2

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed"
)


def set_environment(rank: int) -> None:
    """Before DeepSpeed is imported."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ["DS_ACCELERATOR"] = "cpu"


def train(rank: int, folder: str, kind: str, whole: int, answer_every: int | None) -> None:
    """One of the processes: the same training alone, watched, and with a look that fails.

    whole: weights of at most so many numbers stay whole in every process.
    """
    set_environment(rank)
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": whole},
        "zero_force_ds_cpu_optimizer": False,
    }
    for how in ("alone", "watched", "failing"):
        train_once(rank, Path(folder) / how, kind, config, answer_every)


def train_once(
    rank: int, folder: Path, kind: str, config: dict[str, Any], answer_every: int | None
) -> None:
    import deepspeed

    folder.mkdir(exist_ok=True)
    model = load(kind).model.train()
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), 1e-3),
        config=config,
        dist_init_required=False,
    )
    watch = None
    if folder.name != "alone":
        watch = chesboard.watch(
            model, build_tokenizer(chat=False), PAIRS, mode="offline", output_dir=folder,
            probe_every=1, prompts=["ab"], answer_every=answer_every, answer_tokens=2,
        )  # fmt: skip
    torch.manual_seed(rank)
    losses = []
    for step in range(1, STEPS + 1):
        ids = torch.randint(0, 256, (2, 12))
        loss = engine(input_ids=ids, labels=ids).loss
        engine.backward(loss)
        engine.step()
        losses.append(loss.detach())
        if watch is not None:
            fails = folder.name == "failing" and step == FAILING_STEP
            with failing(model) if fails else nullcontext():
                watch.step(step, {"loss": loss})
    if watch is not None:
        watch.finish()
        assert watch.failures == (folder.name == "failing")
        assert sharding_of(model) == "zero3"
    keep(folder, rank, losses, model, engine)


def keep(folder: Path, rank: int, losses: list[torch.Tensor], model: Any, engine: Any) -> None:
    """What a training left in this process, for the test."""
    states = engine.optimizer.optimizer.state.values()
    left = {
        "losses": losses,
        "weights": [weight.ds_tensor.clone() for weight in model.parameters()],
        "optimizer": [
            torch.as_tensor(value) for state in states for _, value in sorted(state.items())
        ],
        "random": [torch.get_rng_state()],
    }
    torch.save(left, folder / f"left-{rank}.pt")


def assert_same(folder: Path, *others: str) -> None:
    """Each process's training was that of `alone`, to the last bit."""
    for rank in range(2):
        alone = torch.load(folder / "alone" / f"left-{rank}.pt")
        assert not torch.equal(alone["losses"][0], alone["losses"][1])
        for other in others:
            left = torch.load(folder / other / f"left-{rank}.pt")
            for name, tensors in alone.items():
                assert len(tensors) == len(left[name]) > 0
                assert all(map(torch.equal, tensors, left[name])), name


def looks_in(folder: Path) -> list[ProbeStepRecord]:
    """Of the one run whose records are in the folder."""
    [run] = (folder / "chesboard").iterdir()
    lines = [json.loads(line) for path in files(run) for line in path.open()]
    assert lines[-1]["finish"]["summary"]["forward"] == "shared prefix"
    records = [from_json(line["record"]) for line in lines if "record" in line]
    return [one for one in records if isinstance(one, ProbeStepRecord)]


def logprobs_by_step(looks: list[ProbeStepRecord]) -> dict[tuple[int, int], list[float]]:
    return {(one.step, one.pair): one.preferred_logprobs for one in looks}


@pytest.mark.parametrize(
    ("kind", "whole", "answer_every"),
    [("untied llama", 0, None), ("llama", 0, None), ("llama", 100_000, 2)],
    ids=["in parts", "in parts, a head tied to the embedding", "small weights whole"],
)
def test_a_watched_training_is_the_same_to_the_last_bit(kind, whole, answer_every, tmp_path):
    run_in_processes(train, str(tmp_path), kind, whole, answer_every)
    assert_same(tmp_path, "watched", "failing")
    looks = looks_in(tmp_path / "watched")
    assert {one.step for one in looks} == set(range(STEPS + 1))
    assert logprobs_by_step(looks_in(tmp_path / "failing")) == {
        (step, pair): logprobs
        for (step, pair), logprobs in logprobs_by_step(looks).items()
        if step != FAILING_STEP
    }
    at_start = [one for one in looks if one.step == 0]
    expected = unsharded_look(tmp_path, kind)
    assert len(at_start) == len(expected) == 4
    for look, by_one in zip(at_start, expected, strict=True):
        assert look.preferred_logprobs == pytest.approx(by_one.preferred_logprobs, rel=1e-5)
        assert look.ledger.watched_probs == pytest.approx(by_one.ledger.watched_probs, rel=1e-4)


def train_by_trl(rank: int, folder: str) -> None:
    set_environment(rank)
    config = {
        "train_micro_batch_size_per_gpu": "auto",
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
    }
    for how in ("alone", "watched"):
        callback = chesboard.Callback(
            probe_every=1, mode="offline", prompts=["Yes"], answer_every=2, answer_tokens=3
        )
        trainer = make_trainer(
            Path(folder) / how, callbacks=[callback] if how == "watched" else [], deepspeed=config
        )
        trainer.train()
        losses = [
            torch.tensor(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry
        ]
        if how == "watched":
            assert callback.watch is not None
            assert callback.watch.failures == 0
        keep(Path(folder) / how, rank, losses, trainer.model, trainer.model_wrapped)


def test_a_training_by_trl_is_the_same_to_the_last_bit(tmp_path) -> None:
    run_in_processes(train_by_trl, str(tmp_path))
    assert_same(tmp_path, "watched")
    assert {one.step for one in looks_in(tmp_path / "watched")} == set(range(7))


def read_in_flight(rank: int) -> None:
    set_environment(rank)
    import deepspeed

    model = load("untied llama").model
    odd = model.model.norm = torch.nn.LayerNorm(33)  # its parts are padded
    torch.nn.init.normal_(odd.weight)
    wanted = [one.detach().clone() for one in (model.lm_head.weight, odd.weight)]
    zero = {"stage": 3, "stage3_param_persistence_threshold": 0}
    deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), 1e-3),
        config={"train_micro_batch_size_per_gpu": 2, "zero_optimization": zero}
        | {"zero_force_ds_cpu_optimizer": False},
        dist_init_required=False,
    )
    for weight, whole in zip((model.lm_head.weight, odd.weight), wanted, strict=True):
        # As DeepSpeed does for layers that it expects next.
        model.ds_inflight_param_registry[weight] = weight.all_gather_coalesced([weight])
        assert weight.ds_status.name == "INFLIGHT"
        assert torch.equal(whole_weight(weight), whole)
        assert weight.ds_status.name == "INFLIGHT"
        model.ds_inflight_param_registry.pop(weight).wait()
        assert torch.equal(weight, whole)


def test_a_weight_is_whole_where_deepspeed_is_about_to_gather_it() -> None:
    run_in_processes(read_in_flight)
