"""Models of which one layer at a time is in memory: the scores of the whole model, to the last bit,
and each layer read once for all batches."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

import chesboard
from chesboard import cpu
from chesboard.causal_lm import ModelError, placed, read_causal_lm
from chesboard.configs import ScoreConfig
from chesboard.forward import stream_schedule
from chesboard.forward.layer_stream import LayerStream, stream_of
from chesboard.forward.streamed import read_streamed
from chesboard.forward.two_pass import TwoPassForward
from chesboard.loading import load
from chesboard.model import LoadedModel
from chesboard.pairs import Pair, TokenizedPair
from chesboard.reporting import RunInterruptedError
from chesboard.scoring import score_pairs
from tests.chesboard.forward import test_rope
from tests.tiny_models import (
    BUILDERS,
    GoOn,
    KeepingReporter,
    StopAfter,
    build_llama,
    build_other,
    build_tokenizer,
    random_pairs,
)

CPU = torch.device("cpu")
SIX = {"num_hidden_layers": 6}
MODELS = {
    "llama": lambda: build_other("llama", **SIX),
    "tied llama": lambda: build_llama(tied=True),
    "gpt2": BUILDERS["gpt2"],
    "two forwards": BUILDERS["gemma2"],
    "experts, which are stacked as they are read": lambda: build_other("mixtral"),
    "positions that depend on the length": test_rope.BUILDERS["longrope phi3"],
}
ALIKE = [
    replace(pair, prompt_ids=[*range(100, 140), *pair.prompt_ids]) for pair in random_pairs(40)
]
"""They begin with the same tokens, which a large batch prefills."""


def save(folder: Path, kind: str = "llama") -> Path:
    torch.manual_seed(7)
    model = MODELS[kind]()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.mul_(8)
    model.save_pretrained(folder, max_shard_size="60KB")
    build_tokenizer(chat=False).save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


def whole(folder: Path, dtype: torch.dtype = torch.float32) -> LoadedModel:
    return ready(placed("whole", read_causal_lm("whole", str(folder), dtype).model, CPU), dtype)


def streamed(folder: Path, dtype: torch.dtype = torch.float32) -> LoadedModel:
    return ready(read_streamed("streamed", folder, dtype, CPU).model, dtype)


def ready(model: Any, dtype: torch.dtype) -> LoadedModel:
    cpu.install(model, compute_dtype=dtype)
    return LoadedModel(model, build_tokenizer(chat=False), CPU, dtype, "tiny")


def scores(
    loaded: LoadedModel, pairs: list[TokenizedPair], batch_tokens: int = 256, measures: bool = True
) -> tuple[Any, KeepingReporter]:
    reporter, config = KeepingReporter(), ScoreConfig(batch_tokens=batch_tokens)
    score_pairs(loaded, pairs, config, reporter, GoOn(), measures=measures)
    return {record.pair: record for record in reporter.score_records}, reporter


def stream(loaded: LoadedModel) -> LayerStream:
    found = stream_of(loaded.model)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", list(MODELS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_those_of_the_whole_model_to_the_last_bit(
    tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    folder = save(tmp_path, kind)
    pairs = random_pairs(30)
    ours, theirs = streamed(folder, dtype), whole(folder, dtype)
    for measures in (True, False):
        found, reporter = scores(ours, pairs, measures=measures)
        assert found == scores(theirs, pairs, measures=measures)[0]
        assert len(found) == 30
        assert "scoring" in reporter.phases
    # Prompts that begin alike are prefilled, which takes one more pass over the layers.
    assert scores(ours, ALIKE, 2048)[0] == scores(theirs, ALIKE, 2048)[0]


def test_each_layer_is_read_once_for_all_batches(tmp_path: Path) -> None:
    loaded = streamed(save(tmp_path))
    scores(loaded, random_pairs(2))  # the forward passes are compared once for a model
    pairs, computed = random_pairs(60), []
    loaded.model.get_input_embeddings().register_forward_hook(lambda *_: computed.append(1))
    before = stream(loaded).reads
    scores(loaded, pairs)
    assert len(computed) == 7
    assert stream(loaded).reads - before == 6  # and not 42


def test_a_prefill_reads_each_layer_once_more(tmp_path: Path) -> None:
    loaded = streamed(save(tmp_path))
    scores(loaded, random_pairs(2))
    before = stream(loaded).reads
    scores(loaded, ALIKE, 2048)
    assert stream(loaded).reads - before == 12


def test_as_many_batches_go_together_as_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pairs = save(tmp_path), random_pairs(60)
    loaded = streamed(folder)
    expected, _ = scores(loaded, pairs)
    # A batch of 256 tokens: four states of 32 float32 numbers each, and its mask.
    one = 4 * 256 * 32 * 4 + 256 * 50 * 4
    layer = stream(loaded).largest_layer_bytes
    monkeypatch.setattr(stream_schedule, "free_bytes", lambda _: layer + 2 * 3 * one)
    before = stream(loaded).reads
    assert scores(loaded, pairs)[0] == expected
    assert 12 <= stream(loaded).reads - before <= 18
    monkeypatch.setattr(stream_schedule, "free_bytes", lambda _: 0)
    before = stream(loaded).reads
    assert scores(loaded, pairs)[0] == expected  # one batch always goes
    assert stream(loaded).reads - before == 42


def test_out_of_memory_takes_fewer_batches_at_a_time(tmp_path: Path) -> None:
    loaded, pairs = streamed(save(tmp_path)), random_pairs(60)
    expected, _ = scores(loaded, pairs)
    most = 3
    waiting: list[int] = []

    def hook(_module: Any, inputs: Any) -> None:
        waiting.append(1)
        if len(waiting) > most:
            waiting.clear()
            raise torch.OutOfMemoryError("no memory")

    def layer_hook(*_: object) -> None:
        waiting.clear()

    loaded.model.get_input_embeddings().register_forward_pre_hook(hook)
    loaded.model.model.layers[0].register_forward_hook(layer_hook)
    found, reporter = scores(loaded, pairs)
    assert found == expected
    assert not any("Out of GPU memory" in message for message in reporter.messages)


def test_a_stopped_run_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    loaded, pairs = streamed(save(tmp_path)), random_pairs(60)
    expected, _ = scores(loaded, pairs)
    for checks in (1, 3, 6):
        reporter = KeepingReporter()
        with pytest.raises(RunInterruptedError):
            score_pairs(loaded, pairs, ScoreConfig(batch_tokens=256), reporter, StopAfter(checks))
        assert reporter.score_records == []
        assert all(weight.is_meta for weight in loaded.model.model.layers.parameters())
        assert torch.is_grad_enabled()
    assert scores(loaded, pairs)[0] == expected


class CountingReporter(KeepingReporter):
    """Keeps how far the layers were, by phase."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: dict[str, list[tuple[int, int]]] = {}

    def phase(self, name: str, *count: Any) -> None:
        super().phase(name)
        if count and count[2] == "layers":
            self.layers.setdefault(name, []).append(count[:2])


@pytest.mark.parametrize(
    ("free", "pairs", "batch_tokens", "groups", "passes"),
    [
        (1 << 40, random_pairs(60), 256, 1, 1),
        (0, random_pairs(60), 256, 7, 1),  # a batch at a time
        (1 << 40, ALIKE, 2048, 1, 2),  # what all begin with is a pass of its own
    ],
)
def test_layers_are_counted_of_all_that_are_to_be_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    pairs: list[TokenizedPair],
    batch_tokens: int,
    groups: int,
    passes: int,
) -> None:
    loaded, reporter = streamed(save(tmp_path)), CountingReporter()
    monkeypatch.setattr(stream_schedule, "free_bytes", lambda _: free)
    score_pairs(loaded, pairs, ScoreConfig(batch_tokens=batch_tokens), reporter, GoOn())
    layers = 6 * groups * passes
    found = reporter.layers["scoring"]
    assert sorted(set(found)) == [(done, layers) for done in range(layers + 1)]
    assert found == sorted(found)
    compared = reporter.layers["comparing forward passes"]
    assert {done for done, _ in compared} == set(range(6))


def test_two_passes_over_the_layers_are_counted_once_the_second_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, reporter = streamed(save(tmp_path)), CountingReporter()
    monkeypatch.setattr(
        "chesboard.scoring.ready_forward", lambda loaded, *_: TwoPassForward(loaded)
    )
    score_pairs(loaded, random_pairs(20), ScoreConfig(), reporter, GoOn())
    found = reporter.layers["scoring"]
    assert [done for done, _ in found] == [*range(13)]
    assert {total for done, total in found if done > 6} == {12}
    assert all(done < total for done, total in found[:-1])


def test_a_stop_waits_for_no_layer_to_be_read_nor_for_all_batches_in_one(tmp_path: Path) -> None:
    loaded, pairs = streamed(save(tmp_path)), random_pairs(60)
    scores(loaded, random_pairs(2))
    held, go_on = stream(loaded), Event()
    read, reads = held._read, []

    def slow(index: int) -> dict[str, torch.Tensor]:
        reads.append(index)
        if index == 3:
            assert go_on.wait(30)
        return read(index)

    held._read = slow  # type: ignore[method-assign]
    stopping = StopOnce(lambda: 3 in reads and held._held == 2 and held._ahead is None)
    began = time.monotonic()
    try:
        with pytest.raises(RunInterruptedError):
            score_pairs(loaded, pairs, ScoreConfig(batch_tokens=256), KeepingReporter(), stopping)
        assert time.monotonic() - began < 10
    finally:
        go_on.set()
    computed: list[int] = []
    loaded.model.model.layers[4].register_forward_hook(lambda *_: computed.append(1))
    with pytest.raises(RunInterruptedError):
        score_pairs(
            loaded,
            pairs,
            ScoreConfig(batch_tokens=256),
            KeepingReporter(),
            StopOnce(lambda: len(computed) == 3),
        )
    assert len(computed) == 3  # of 7 batches


class StopOnce:
    """A control that interrupts once something is so."""

    def __init__(self, is_so: Callable[[], bool]) -> None:
        self._is_so = is_so

    def check(self) -> None:
        if self._is_so():
            raise RunInterruptedError("asked to stop")


def test_one_layer_is_in_memory_at_a_time(tmp_path: Path) -> None:
    loaded = streamed(save(tmp_path))
    held: list[int] = []

    def count(*_: object) -> None:
        layers = loaded.model.model.layers
        held.append(sum(not next(layer.parameters()).is_meta for layer in layers))

    for layer in loaded.model.model.layers:
        layer.register_forward_hook(count)
    scores(loaded, random_pairs(30))
    assert set(held) == {1}


def test_what_files_do_not_hold_is_made_as_the_whole_model_makes_it(tmp_path: Path) -> None:
    for kind in ("llama", "two forwards", "positions that depend on the length"):
        folder = save(tmp_path / kind, kind)
        expected = dict(read_causal_lm(kind, str(folder), torch.float32).model.named_buffers())
        found = dict(streamed(folder).model.named_buffers())
        assert set(found) == set(expected) != set()
        for name, buffer in found.items():
            assert torch.equal(buffer, expected[name]), name


def change(folder: Path, name: str, value: torch.Tensor | None) -> None:
    """Change a tensor in the file that holds it; None takes it out."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    file = folder / index["weight_map"][name]
    weights = {key: one for key, one in load_file(file).items() if key != name}
    if value is not None:
        weights[name] = value
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("model.layers.3.mlp.up_proj.weight", None, "lack 1 of its tensors"),
        ("model.norm.weight", None, "lack 1 of its tensors"),
        ("model.layers.3.mlp.up_proj.weight", torch.ones(3, 32), "another shape"),
        ("model.layers.3.input_layernorm.weight", torch.full((32,), math.nan), "NaN or infinity"),
        ("model.norm.weight", torch.full((32,), math.inf), "NaN or infinity"),
    ],
)
def test_a_missing_mismatched_or_damaged_tensor_is_refused_by_name(
    tmp_path: Path, name: str, value: torch.Tensor | None, said: str
) -> None:
    folder = save(tmp_path)
    change(folder, name, value)
    with pytest.raises(ModelError, match=f"{said}.*{name}"):
        streamed(folder)
    with pytest.raises(ModelError, match=f"{said}.*{name}"):  # as the whole model is
        whole(folder)


def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"quantized \(fp8\).* not read layer by layer"):
        streamed(folder)


def test_a_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="A GGUF file is dequantized as a whole"):
        streamed(tmp_path / "tiny.gguf")


def test_the_library_opens_and_scores_a_streamed_model(tmp_path: Path) -> None:
    folder = save(tmp_path)
    pairs = [Pair("Is it green?", " No", " Never"), Pair("Say", "the", "a"), Pair("x", "No", "Yes")]
    model, tokenizer = chesboard.open_streamed(str(folder), device="cpu")
    plain, _ = load(ScoreConfig(model=str(folder), device="cpu"))
    assert stream_of(plain) is None
    layers: list[tuple[int, int]] = []

    def count(done: int, total: int) -> None:
        layers.append((done, total))

    expected = chesboard.score(plain, tokenizer, pairs, layer_progress=count)
    assert layers == []
    assert chesboard.score(model, tokenizer, pairs, layer_progress=count) == expected
    assert layers == [(done, 6) for done in range(7)]
    for _ in range(2):
        assert chesboard.score(model, tokenizer, pairs) == expected
        assert all(weight.is_meta for weight in model.model.layers.parameters())


def test_the_library_streams_a_model_that_does_not_fit_unless_it_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save(tmp_path)
    size = sum(one.numel() * 4 for one in whole(folder).model.parameters())
    memory = SimpleNamespace(available=size - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    model, _ = load(ScoreConfig(model=str(folder), device="cpu"))
    assert stream_of(model) is not None
    assert "the layers of the model are read from disk one by one" in caplog.text
    model, _ = load(ScoreConfig(model=str(folder), device="cpu", stream="never"))
    assert stream_of(model) is None
    memory.available = 1000
    with pytest.raises(ModelError, match="even if one layer after the other is read"):
        load(ScoreConfig(model=str(folder), device="cpu"))
