"""Two processes train together (gloo, on the CPU): watched, they train the same to the last bit."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import chesboard
from chesboard.client.spool import files
from chesboard.record_json import from_json
from chesboard.records import ProbeStepRecord
from chesboard.sharding import layer_class, sharding_of, whole_weight
from tests.processes import run_in_processes
from tests.tiny_models import build_tokenizer, load, random_pairs

STEPS = 4
PAIRS = random_pairs(3)

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")


def plain(model: Any) -> tuple[Any, Any]:
    return DistributedDataParallel(model), model


def sharded(model: Any) -> tuple[Any, Any]:
    """The head is sharded apart: its weight has to be gathered where it is read."""
    from torch.distributed.fsdp import fully_shard

    fully_shard(model.lm_head)
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    return model, model


def wrapped(model: Any, original: bool = True) -> tuple[Any, Any]:
    """FSDP version 1, with the model's own weights or with those of its blocks in one tensor. Of
    the first the model within is watched, as Hugging Face's trainers hand it over."""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    whole = FullyShardedDataParallel(
        model,
        auto_wrap_policy=ModuleWrapPolicy({type(model.model.layers[0])}),
        use_orig_params=original,
        device_id=torch.device("cpu"),
    )
    return whole, model if original else whole


WRAPPERS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "DDP": plain,
    "FSDP2": sharded,
    "FSDP1": wrapped,
    "FSDP1, flat": partial(wrapped, original=False),
}
CASES = [
    "DDP",
    "FSDP1",
    "FSDP1, flat",
    pytest.param(
        "FSDP2",
        marks=pytest.mark.skipif(
            not hasattr(torch.cpu.Stream, "record_event"), reason="this torch has it on GPUs only"
        ),
    ),
]


def train(rank: int, wrapper: str, folder: str, is_watched: bool, fails: bool = False) -> None:
    """One of the processes; leaves what it has in `folder`. fails: the second look, in a block."""
    loaded = load("untied llama")
    model, watched = WRAPPERS[wrapper](loaded.model.train())
    watch = None
    if is_watched:
        watch = chesboard.watch(
            watched, build_tokenizer(chat=False), PAIRS, mode="offline", output_dir=folder,
            probe_every=1, prompts=["ab"], answer_every=2, answer_tokens=2,
        )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    torch.manual_seed(rank)
    losses = []
    for step in range(1, STEPS + 1):
        ids = torch.randint(0, 256, (2, 12))
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        if watch is not None:
            with failing(loaded.model) if fails and step == 2 else nullcontext():
                watch.step(step, {"loss": loss})
    if watch is not None:
        watch.finish()
        assert watch.failures == int(fails)
        kind = wrapper.partition(",")[0].lower()
        assert sharding_of(watched) == ("none" if kind == "ddp" else kind)
        # Of the tiny model, that may be the layer that `chesboard.cpu` puts in a plain one's place.
        head = layer_class(watched.get_output_embeddings())
        assert head.__name__ in ("Linear", "OneDNNLinear")
    left = {
        "losses": losses,
        "weights": [whole_weight(weight).detach() for weight in model.parameters()],
        "optimizer": [
            whole_weight(value)
            for weight in model.parameters()
            for _, value in sorted(optimizer.state[weight].items())
        ],
        "random": [torch.get_rng_state()],
    }
    torch.save(left, Path(folder) / f"left-{rank}.pt")


@contextmanager
def failing(model: Any) -> Iterator[None]:
    [attention, *_] = [one for name, one in model.named_modules() if name.endswith("self_attn")]
    attention.forward = lambda **_: 1 / 0
    yield
    del attention.forward


def trained(wrapper: str, folder: Path, *arguments: bool) -> list[dict[str, list[Any]]]:
    folder.mkdir()
    run_in_processes(train, wrapper, str(folder), *arguments)
    return [torch.load(folder / f"left-{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("wrapper", CASES)
def test_processes_that_are_watched_train_the_same_to_the_last_bit(wrapper, tmp_path) -> None:
    alone = trained(wrapper, tmp_path / "alone", False)
    watched = trained(wrapper, tmp_path / "watched", True)
    for one, other in zip(alone, watched, strict=True):
        for name, tensors in one.items():
            assert len(tensors) == len(other[name]) > 0
            assert all(map(torch.equal, tensors, other[name])), name
    assert not torch.equal(alone[0]["losses"][0], alone[1]["losses"][0])
    [folder] = (tmp_path / "watched" / "chesboard").iterdir()  # of one process alone
    [path] = files(folder)
    lines = [json.loads(line) for line in path.open()]
    looks = [from_json(line["record"]) for line in lines if "record" in line]
    at_start = [one for one in looks if isinstance(one, ProbeStepRecord) and one.step == 0]
    assert lines[-1]["finish"]["summary"]["forward"] == "shared prefix"
    assert {one.step for one in looks if isinstance(one, ProbeStepRecord)} == set(range(STEPS + 1))
    expected = unsharded_look(tmp_path)
    assert len(at_start) == len(expected) == 4
    for look, by_one in zip(at_start, expected, strict=True):
        assert look.preferred_logprobs == pytest.approx(by_one.preferred_logprobs, rel=1e-5)
        assert look.ledger.watched_probs == pytest.approx(by_one.ledger.watched_probs, rel=1e-4)


@pytest.mark.parametrize("wrapper", CASES[1:])
def test_a_look_that_fails_in_a_block_changes_nothing(wrapper, tmp_path) -> None:
    alone = trained(wrapper, tmp_path / "alone", False)
    watched = trained(wrapper, tmp_path / "watched", True, True)
    for one, other in zip(alone, watched, strict=True):
        for name, tensors in one.items():
            assert all(map(torch.equal, tensors, other[name])), name


def watch_parts(_rank: int, folder: str) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = load("untied llama").model
    layers = model.model.layers
    for place, layer in enumerate(layers):
        layers[place] = FullyShardedDataParallel(layer, device_id=torch.device("cpu"))
    watch = chesboard.watch(
        model, build_tokenizer(chat=False), PAIRS, mode="offline", output_dir=folder
    )
    watch.step(1, {"loss": 0.5})
    watch.finish()
    assert watch.failures == 1


def test_a_model_of_which_fsdp1_wraps_parts_alone_has_curves_and_says_why_no_more(tmp_path) -> None:
    run_in_processes(watch_parts, str(tmp_path))
    [folder] = (tmp_path / "chesboard").iterdir()
    [path] = files(folder)
    text = path.read_text()
    assert "wraps parts of the model alone" in text
    records = [json.loads(line)["record"] for line in text.splitlines() if '"record"' in line]
    assert [(one["kind"], one["step"], one["loss"]) for one in records] == [("metric", 1, 0.5)]


def unsharded_look(folder: Path, kind: str = "untied llama") -> list[ProbeStepRecord]:
    """Step 0 of the same model in one process."""
    loaded = load(kind)
    watch = chesboard.watch(
        loaded.model, loaded.tokenizer, PAIRS, mode="offline", output_dir=folder / "one",
        prompts=["ab"],
    )  # fmt: skip
    watch.finish()
    [run] = (folder / "one" / "chesboard").iterdir()
    lines = [json.loads(line) for path in files(run) for line in path.open()]
    looks = [from_json(line["record"]) for line in lines if "record" in line]
    return [one for one in looks if isinstance(one, ProbeStepRecord)]
