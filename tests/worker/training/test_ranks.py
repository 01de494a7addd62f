"""Two processes that train one model (FSDP2, gloo on the CPU) against one that trains it alone."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from chesboard import cpu
from chesboard.causal_lm import placed, read_causal_lm
from chesboard.configs import TrainConfig
from chesboard.model import LoadedModel
from chesboard.reporting import Control, RunInterruptedError
from chesboard.sharding import own_part, sharding_of
from tests.processes import run_in_processes
from tests.tiny_models import GoOn, KeepingReporter, build_tokenizer, load, random_pairs
from worker.models.progress import ignore_phase
from worker.models.sharded import load_sharded, whole_model
from worker.training.loop import train
from worker.training.sharing import Ranks, SharedControl, current_ranks, micro_batches
from worker.training.terms import PairInputs
from worker.training.weights import merge_adapters

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")

PAIRS = random_pairs(7)
SHARING = [
    dataclasses.replace(pair, prompt_ids=[*range(100, 230), *pair.prompt_ids])
    if pair.pair % 2
    else pair
    for pair in PAIRS
]
"""Prompts of the pairs that the second process gets have a long beginning in common."""
INPUTS = PairInputs(
    offsets={pair.pair: 0.1 * pair.pair for pair in PAIRS},
    weights={pair.pair: 0.5 + 0.1 * pair.pair for pair in PAIRS},
)
BASE = {"learning_rate": 1e-3, "epochs": 2, "probe_every": 2, "batch_size": 4}
LORA = {"rank": 2}
CASES: dict[str, dict[str, Any]] = {
    # 7 pairs in batches of 4: the second has 3, of which one process gets 2 and the other 1.
    "plain": {
        "kind": "odd llama",
        "probes": {"prompts": [{"prompt": "Is it the end?", "watch": ["Yes"]}]},
        "ledger_positions": {"preferred": "all", "dispreferred": [1]},
        "answer_every": 3,
        "answer_tokens": 2,
    },
    # Batches of 6 and 1: one process has no pair of the second. Micro-batches of 2 and of 1.
    "accumulated and clipped": {
        "batch_size": 2, "gradient_accumulation": 3, "batch_tokens": 40, "max_grad_norm": 0.1,
    },
    "adapters": {"lora": LORA, "max_grad_norm": 0.5, "gradient_checkpointing": True},
    "calibrated": {"reward_calibration": True, "sft_coef": 0.1, "optimizer": "sgd"},
    "tails": {"ld_alpha": 0.3, "gradient_checkpointing": True, "optimizer": "rmsprop"},
    "two phases": {
        "extend_sft_epochs": 1, "optimizer": "sgd",
        "objective": "dpo_shift", "dpo_shift_schedule": "linear",
    },
    "weighted offsets": {"objective": "odpo", "inputs": INPUTS},
    "untied": {"kind": "untied llama"},
    "gpt2": {"kind": "gpt2", "lora": LORA},
    "two forwards": {"kind": "gemma2"},
    # The second process alone would prefill it: one pass more than the first does.
    "a common beginning": {"pairs": SHARING, "shuffle": False},
}  # fmt: skip
INTERRUPTED: dict[str, Any] = {"lora": {"rank": 2, "dropout": 0.2}, "max_steps": 4}
"""What goes on with as many processes has the dropout that it would have had."""


@dataclasses.dataclass
class Trained:
    summary: dict[str, Any]
    reporter: KeepingReporter
    weights: dict[str, torch.Tensor]
    """Of the model that would be saved."""


def save(kind: str, folder: Path) -> Path:
    model = load(kind.removeprefix("odd ")).model
    if kind.startswith("odd "):  # its tied embedding has no half
        model.resize_token_embeddings(301, mean_resizing=False)
    model.save_pretrained(folder / kind)
    build_tokenizer(chat=False).save_pretrained(folder / kind)
    return folder / kind


class StopAfterStep(GoOn):
    """Stops once so many steps are recorded; None: never."""

    def __init__(self, reporter: KeepingReporter, steps: int | None) -> None:
        self._reporter, self._steps = reporter, steps

    def check(self) -> None:
        if self._steps is not None and len(self._reporter.metrics) >= self._steps:
            raise RunInterruptedError("enough")


def alone(folder: Path, model: Path, stop_after: int | None = None, **config: Any) -> Trained:
    """In this process."""
    read = read_causal_lm("tiny", str(model), torch.float32)
    device = torch.device("cpu")
    loaded = LoadedModel(
        placed("tiny", read.model, device), build_tokenizer(chat=False), device, torch.float32, ""
    )
    cpu.install(loaded.model, blockwise_attention=False)
    return trained(folder, loaded, stop_after, **config)


def trained(folder: Path, loaded: LoadedModel, stop_after: int | None, **config: Any) -> Trained:
    ranks, reporter = current_ranks(), KeepingReporter()
    control: Control = StopAfterStep(reporter, stop_after)
    if not ranks.is_alone:
        control = SharedControl(control)
    inputs, pairs = config.pop("inputs", PairInputs()), config.pop("pairs", PAIRS)
    summary = train(
        loaded, pairs, TrainConfig(**{**BASE, **config}), reporter, control, folder, pairs[:3],
        None, inputs, None, ranks,
    )  # fmt: skip
    model = merge_adapters(loaded.model) if ranks.is_alone else whole_model(loaded)
    weights = {} if model is None else {n: p.detach() for n, p in model.named_parameters()}
    return Trained(summary, reporter, weights)


# --- in each of two processes -------------------------------------------------------------------


def together(rank: int, models: str, folder: str) -> None:
    """Train all cases, and what is interrupted; the first process leaves what it found."""
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        config = {**case}
        found[name] = shared(Path(folder) / name, models, **config)
    # Each holds about half: sums are over parts.
    loaded = spread(models, "untied llama")
    assert sharding_of(loaded.model) == "fsdp2"
    sizes = [(own_part(p).numel(), p.numel()) for p in loaded.model.parameters()]
    found["share"] = sum(part for part, _ in sizes) / sum(whole for _, whole in sizes)
    found["1 to 2"] = shared(Path(folder) / "1 to 2", models, max_steps=4)
    told = 2 if rank == 1 else None  # one process alone is told to stop
    with pytest.raises(RunInterruptedError):
        shared(Path(folder) / "2 to 1", models, told, max_steps=4)
    found["calm"] = shared(Path(folder) / "calm", models, **INTERRUPTED)
    with pytest.raises(RunInterruptedError):
        shared(Path(folder) / "2 to 2", models, told, **INTERRUPTED)
    found["2 to 2"] = shared(Path(folder) / "2 to 2", models, **INTERRUPTED)
    if rank == 0:
        (Path(folder) / "found").write_bytes(pickle.dumps(found))


def spread(models: str, kind: str) -> LoadedModel:
    config = TrainConfig(model="tiny")
    return load_sharded(config, str(Path(models) / kind), ignore_phase)


def shared(folder: Path, models: str, stop_after: int | None = None, **config: Any) -> Trained:
    loaded = spread(models, config.pop("kind", "llama"))
    return trained(folder, loaded, stop_after, **config)


# --- comparing ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for kind in ("llama", "odd llama", "untied llama", "gpt2", "gemma2"):
        save(kind, folder)
    return folder


@pytest.fixture(scope="module")
def found(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.raises(RunInterruptedError):
        alone(folder / "1 to 2", models / "llama", 2, max_steps=4)
    run_in_processes(together, str(models), str(folder))
    return {**pickle.loads((folder / "found").read_bytes()), "folder": folder}


def close(a: Any, b: Any) -> bool:
    """Numbers within float32's rounding (log-probabilities are sums of some 60 nats); all else
    equal. Also within lists and records."""
    if dataclasses.is_dataclass(a):
        # Pair 4 has the same response twice: the sign of its margin is that of rounding.
        left_out = {"tokens_per_second", "accuracy"}
        names = [f.name for f in dataclasses.fields(a) if f.name not in left_out]
        return type(a) is type(b) and all(close(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, float) and isinstance(b, float):
        return bool(a == pytest.approx(b, rel=1e-4, abs=2e-5, nan_ok=True))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(close, a, b))
    return bool(a == b)


def check(one: Trained, two: Trained) -> None:
    assert len(one.reporter.metrics) == len(two.reporter.metrics) > 0
    for single, shared_step in zip(one.reporter.metrics, two.reporter.metrics, strict=True):
        assert close(single, shared_step), (single, shared_step)
    assert one.weights.keys() == two.weights.keys()
    for name, weight in one.weights.items():
        torch.testing.assert_close(two.weights[name], weight, rtol=1e-4, atol=5e-6, msg=name)
    assert two.reporter.references.keys() == one.reporter.references.keys()
    for pair, values in one.reporter.references.items():
        assert close(list(values), list(two.reporter.references[pair])), pair
    finals = {record.pair: record for record in two.reporter.final_records}
    assert len(two.reporter.final_records) == len(finals) == len(PAIRS)
    for record in one.reporter.final_records:
        assert close(record, finals[record.pair])


@pytest.mark.parametrize("name", CASES)
def test_a_run_of_two_is_the_run_of_one(
    found: dict[str, Any], models: Path, tmp_path: Path, name: str
) -> None:
    config = {**CASES[name]}
    one = alone(tmp_path, models / config.pop("kind", "llama"), **config)
    two = found[name]
    check(one, two)
    assert two.summary["forward"] == one.summary["forward"]
    assert two.summary["parameters_trained"] == one.summary["parameters_trained"]
    assert len(two.reporter.probe_steps) == len(one.reporter.probe_steps) > 0
    for single, other in zip(one.reporter.probe_steps, two.reporter.probe_steps, strict=True):
        for what in ("preferred_logprobs", "dispreferred_logprobs", "onset_step", "group_probs"):
            assert close(getattr(single, what), getattr(other, what)), what
        assert close(single.ledger.watched_probs, other.ledger.watched_probs)
        assert single.ledger.moved_mass == pytest.approx(other.ledger.moved_mass, abs=1e-6)
        assert single.ledger.argmax_token == other.ledger.argmax_token
    assert len(two.reporter.position_steps) == len(one.reporter.position_steps)
    for a, b in zip(one.reporter.position_steps, two.reporter.position_steps, strict=True):
        assert close(a.ledger.watched_probs, b.ledger.watched_probs)
    assert [(a.pair, a.step, a.text) for a in two.reporter.answers] == [
        (a.pair, a.step, a.text) for a in one.reporter.answers
    ]


def test_each_process_holds_half_of_the_weights(found: dict[str, Any]) -> None:
    assert found["share"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("way", ["1 to 2", "2 to 1"])
def test_a_run_goes_on_with_another_number_of_processes(
    found: dict[str, Any], models: Path, tmp_path: Path, way: str
) -> None:
    calm = alone(tmp_path, models / "llama", max_steps=4)
    if way == "1 to 2":
        resumed = found[way]
    else:
        checkpoint = found["folder"] / way / "checkpoint"
        [parts] = checkpoint.iterdir()
        assert parts.name.startswith("step-")
        resumed = alone(found["folder"] / way, models / "llama", max_steps=4)
    steps = [metric.step for metric in resumed.reporter.metrics]
    assert steps == [3, 4]
    for a, b in zip(calm.reporter.metrics[-len(steps) :], resumed.reporter.metrics, strict=True):
        assert close(a, dataclasses.replace(b, tokens_seen=a.tokens_seen))
    for name, weight in calm.weights.items():
        torch.testing.assert_close(resumed.weights[name], weight, rtol=1e-4, atol=5e-6)


def test_a_run_that_goes_on_with_as_many_is_the_undisturbed_one_to_the_last_bit(
    found: dict[str, Any],
) -> None:
    """Dropout included: each process goes on with its own random numbers."""
    calm, resumed = found["calm"], found["2 to 2"]
    steps = [metric.step for metric in resumed.reporter.metrics]
    assert steps == [3, 4]
    for a, b in zip(calm.reporter.metrics[-len(steps) :], resumed.reporter.metrics, strict=True):
        assert dataclasses.replace(a, tokens_per_second=b.tokens_per_second) == b
    assert all(torch.equal(weight, resumed.weights[n]) for n, weight in calm.weights.items())


@pytest.mark.parametrize("size", [1, 2, 5, 11])
def test_every_pair_of_a_step_has_weight_once_and_all_ranks_do_as_many_passes(size: int) -> None:
    batch = random_pairs(11)[:size]
    parts = [list(micro_batches(Ranks(rank, 3), batch, len_of, 40, 4)) for rank in range(3)]
    assert len({len(part) for part in parts}) == 1
    weighted = [pair.pair for part in parts for pairs, has in part if has for pair in pairs]
    assert sorted(weighted) == [pair.pair for pair in batch]
    assert all(len(pairs) == 1 for part in parts for pairs, has in part if not has)


def len_of(pair: Any) -> int:
    return int(pair.tokens)
