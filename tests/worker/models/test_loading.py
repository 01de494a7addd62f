"""Which names load, with which weights, and what is refused before anything is read."""

import io
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.core.settings import Settings
from app.runs.weights import zip_stream
from chesboard.causal_lm import ReadModel
from chesboard.configs import EvaluateConfig, GenerateConfig, ScoreConfig, TrainConfig
from chesboard.configs import LoraConfig as LoraSettings
from chesboard.cpu import precision
from chesboard.cpu.precision import computed_in
from chesboard.forward.layer_stream import stream_of
from chesboard.forward.select import select_forward
from chesboard.hub.models import HubModel
from chesboard.loading import ModelError
from chesboard.model import LoadedModel, autocast
from chesboard.model_files.inspection import count_parameters
from tests.tiny_models import build_other, build_tokenizer, load, random_pairs
from worker.models import loading
from worker.models.cache import ModelCache
from worker.models.files import save_folder
from worker.models.loading import describe_loaded, other_precision
from worker.training.weights import merge_adapters, prepare_model


@pytest.fixture
def settings(tiny_model_dir: Path, tmp_path: Path) -> Settings:
    return Settings(models_dir=tiny_model_dir.parent, data_dir=tmp_path)


def test_a_folder_in_the_models_folder_is_loaded_in_eval_mode(settings: Settings) -> None:
    loaded = ModelCache(settings).load(ScoreConfig(model="tiny", device="cpu"))
    assert not loaded.model.training
    assert loaded.tokenizer.chat_template
    assert loaded.compute_dtype == torch.float32
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


@pytest.fixture
def _computes_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the processor: without instructions for it PyTorch makes do."""
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: True)


@pytest.fixture
def _computes_float32_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: False)


def test_scoring_in_bfloat16_holds_matrices_in_bfloat16(settings: Settings) -> None:
    config = ScoreConfig(model="tiny", device="cpu", dtype="bfloat16")
    model = ModelCache(settings).load(config).model
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert {module.weight.dtype for module in linear} == {torch.bfloat16}
    assert model.get_input_embeddings().weight.dtype == torch.float32


@pytest.mark.usefixtures("_computes_bfloat16")
def test_states_in_bfloat16_are_nearer_to_float32_than_those_of_a_wholly_narrow_model(
    settings: Settings,
) -> None:
    ids = torch.randint(0, 200, (8, 64), generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def states(loaded: LoadedModel) -> torch.Tensor:
        with autocast(loaded):
            last: torch.Tensor = loaded.model.model(ids).last_hidden_state
        return last.float()

    models = ModelCache(settings)
    wide = models.load(ScoreConfig(model="tiny", device="cpu"))
    exact = states(wide)
    narrow = states(replace(wide, model=wide.model.bfloat16(), compute_dtype=torch.bfloat16))
    ours = states(models.load(ScoreConfig(model="tiny", device="cpu", dtype="bfloat16")))
    assert (ours - exact).abs().mean() < 0.8 * (narrow - exact).abs().mean()


@pytest.mark.usefixtures("_computes_bfloat16")
def test_training_in_bfloat16_keeps_float32_weights(settings: Settings) -> None:
    config = TrainConfig(model="tiny", device="cpu", dtype="bfloat16")
    loaded = ModelCache(settings).load(config)
    assert loaded.compute_dtype == torch.bfloat16
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("instructions", ["amx_bf16", "avx512_bf16", "avx512_f"])
def test_bfloat16_is_computed_by_processors_with_instructions_for_it_and_by_gpus(
    monkeypatch: pytest.MonkeyPatch, instructions: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instructions: True})
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    narrow = instructions.endswith("bf16")
    assert computed_in(torch.bfloat16, cpu) == (torch.bfloat16 if narrow else torch.float32)
    assert computed_in(torch.bfloat16, gpu) == torch.bfloat16
    assert computed_in(torch.float32, cpu) == torch.float32


@pytest.mark.usefixtures("_computes_float32_only")
@pytest.mark.parametrize(
    ("kind", "tolerance", "held_in"),
    [
        ("llama", 1e-5, torch.bfloat16),
        ("untied llama", 1e-5, torch.bfloat16),
        ("gpt2", 1e-5, torch.bfloat16),  # its layers are linear ones in all but name
        ("gemma2", 1e-3, torch.bfloat16),  # rounds what it scales its embeddings by, as well
        ("mamba", 1e-5, torch.float32),
    ],
)
def test_where_a_processor_has_float32_only_it_scores_the_rounded_weights_exactly(
    tmp_path: Path, kind: str, tolerance: float, held_in: torch.dtype
) -> None:
    rounded = load(kind)
    with torch.no_grad():
        for parameter in rounded.model.parameters():
            parameter.copy_(parameter.bfloat16())
    save_folder(rounded.model, build_tokenizer(chat=True), tmp_path / "models" / "rounded")
    settings = Settings(models_dir=tmp_path / "models", data_dir=tmp_path)
    config = ScoreConfig(model="rounded", device="cpu", dtype="bfloat16")
    loaded = ModelCache(settings).load(config)
    assert loaded.compute_dtype == torch.float32
    assert "float32, with weights rounded to bfloat16" in (other_precision(config, loaded) or "")
    linear = [m for m in loaded.model.modules() if isinstance(m, torch.nn.Linear)]
    assert {module.weight.dtype for module in linear} == {held_in}
    pairs = random_pairs(6)
    with torch.no_grad():
        found = select_forward(loaded, pairs)[0](pairs)
        expected = select_forward(rounded, pairs)[0](pairs)
    for ours, exact in (
        (found.hidden_UD, expected.hidden_UD),
        (found.preferred_logprobs_B(), expected.preferred_logprobs_B()),
    ):
        assert ours.dtype == torch.float32
        assert (ours - exact).norm() <= tolerance * exact.norm()


@pytest.mark.usefixtures("_computes_float32_only")
def test_where_a_processor_has_float32_only_training_is_in_float32_and_says_so(
    settings: Settings,
) -> None:
    config = TrainConfig(model="tiny", device="cpu", dtype="bfloat16")
    loaded = ModelCache(settings).load(config)
    assert loaded.compute_dtype == torch.float32
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert (other_precision(config, loaded) or "").endswith("The run computes in float32.")


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_nothing_is_said_of_a_precision_that_was_asked_for(settings: Settings, dtype: str) -> None:
    config = ScoreConfig.model_validate({"model": "tiny", "device": "cpu", "dtype": dtype})
    assert other_precision(config, ModelCache(settings).load(config)) is None


def test_the_last_model_is_kept_until_someone_trains_it(settings: Settings) -> None:
    models = ModelCache(settings)
    score = ScoreConfig(model="tiny", device="cpu")
    first = models.load(score)
    assert models.load(score) is first
    assert models.load(TrainConfig(model="tiny", device="cpu")) is first
    assert models.load(score) is not first


def test_weights_that_changed_on_disk_are_read_again(settings: Settings) -> None:
    models = ModelCache(settings)
    config = ScoreConfig(model="run:7", device="cpu")
    tiny = models.load(ScoreConfig(model="tiny", device="cpu"))
    folder = settings.run_path(7) / "model"
    save_folder(tiny.model, tiny.tokenizer, folder)
    first = models.load(config)
    with torch.no_grad():
        tiny.model.get_input_embeddings().weight.add_(1.0)
    save_folder(tiny.model, tiny.tokenizer, folder)
    second = models.load(config)
    assert second is not first
    assert not torch.equal(
        first.model.get_input_embeddings().weight, second.model.get_input_embeddings().weight
    )


def test_a_link_in_the_models_folder_is_followed(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link").symlink_to(settings.models_path / "tiny")
    linked = settings.model_copy(update={"models_dir": tmp_path / "models"})
    assert ModelCache(linked).load(ScoreConfig(model="link", device="cpu")).name == "link"


@pytest.mark.parametrize("name", ["../outside", "/etc", "tiny/../../outside"])
def test_nothing_outside_the_models_folder_is_opened(settings: Settings, name: str) -> None:
    with pytest.raises(ModelError, match="lies outside the models folder"):
        ModelCache(settings).load(ScoreConfig(model=name, device="cpu"))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nothing-here", "There is no model “nothing-here”"),
        ("run:12", "run:12 has left no model"),
        ("run:../..", "has left no model"),
    ],
)
def test_an_unknown_model_is_refused_by_name(settings: Settings, name: str, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        ModelCache(settings).load(ScoreConfig(model=name, device="cpu"))


def test_a_model_that_has_no_sdpa_loads_with_the_attention_it_has(tmp_path: Path) -> None:
    """Gemma 2 caps what attention weighs, which PyTorch's own attention does not."""
    folder = tmp_path / "models" / "gemma"
    save_folder(load("gemma2").model, build_tokenizer(chat=True), folder)
    settings = Settings(models_dir=tmp_path / "models", data_dir=tmp_path)
    loaded = ModelCache(settings).load(ScoreConfig(model="gemma", device="cpu"))
    assert loaded.model.config._attn_implementation == "eager"


@pytest.fixture
def with_adapter(settings: Settings, tmp_path: Path) -> Settings:
    """A models folder with a model, and an adapter of it that changes its numbers."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "tiny").symlink_to(settings.models_path / "tiny")
    base = AutoModelForCausalLM.from_pretrained(models / "tiny")
    adapted = get_peft_model(
        base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.peft_config["default"].base_model_name_or_path = "/home/me/models/tiny"
    adapted.save_pretrained(models / "adapter")
    return settings.model_copy(update={"models_dir": models})


def test_an_adapter_is_loaded_onto_its_base(with_adapter: Settings) -> None:
    models = ModelCache(with_adapter)
    base = models.load(ScoreConfig(model="tiny", device="cpu"))
    assert base.notes == ()
    loaded = models.load(ScoreConfig(model="adapter", device="cpu"))
    assert loaded.notes == ("The adapter was merged into its base model, tiny.",)
    assert not hasattr(loaded.model, "peft_config")
    changed = [
        name
        for name, weight in loaded.model.state_dict().items()
        if not torch.equal(weight, base.model.state_dict()[name])
    ]
    assert changed
    assert all("q_proj" in name for name in changed)
    assert models.load(ScoreConfig(model="adapter", device="cpu")) is loaded


def test_an_adapter_that_changed_on_disk_is_read_again(with_adapter: Settings) -> None:
    models = ModelCache(with_adapter)
    config = ScoreConfig(model="adapter", device="cpu")
    first = models.load(config)
    file = with_adapter.models_path / "adapter" / "adapter_model.safetensors"
    os.utime(file, ns=(1, 1))
    assert models.load(config) is not first


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_what_is_trained_from_an_adapter_is_a_whole_model(
    with_adapter: Settings, tmp_path: Path, lora: Any
) -> None:
    config = TrainConfig.model_validate({"model": "adapter", "device": "cpu", "lora": lora})
    loaded = ModelCache(with_adapter).load(config)
    before = loaded.model.state_dict()
    prepare_model(loaded, config.lora)
    save_folder(merge_adapters(loaded.model), loaded.tokenizer, tmp_path / "result")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "result")
    for name, weight in again.state_dict().items():
        torch.testing.assert_close(weight, before[name])
    assert not (tmp_path / "result" / "adapter_config.json").exists()


def test_an_adapter_without_its_base_names_it(with_adapter: Settings) -> None:
    (with_adapter.models_path / "tiny").unlink()
    with pytest.raises(ModelError, match=r"an adapter of “/home/me/models/tiny”.* as “tiny”"):
        ModelCache(with_adapter).load(ScoreConfig(model="adapter", device="cpu"))


def test_training_does_not_start_on_quantized_weights(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load().model
    model.is_quantized = True
    monkeypatch.setattr(loading, "read_causal_lm", lambda *_: ReadModel(model, ()))
    with pytest.raises(ModelError, match="quantized, and such have no gradients"):
        ModelCache(settings).load(TrainConfig(model="tiny", device="cpu"))


def test_a_folder_with_pickled_weights_is_refused(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "pickled"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    models = ModelCache(settings.model_copy(update={"models_dir": tmp_path / "models"}))
    with pytest.raises(ModelError, match="pickled weights of PyTorch only"):
        models.load(ScoreConfig(model="pickled", device="cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is not there")
def test_a_gpu_that_is_not_there_is_refused(settings: Settings) -> None:
    with pytest.raises(ModelError, match="PyTorch sees 0 GPUs"):
        ModelCache(settings).load(ScoreConfig(model="tiny", device="cuda"))


def test_a_model_too_large_for_the_memory_is_refused_with_the_numbers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Full)
    with pytest.raises(ModelError, match=r"0 million parameters and needs at least .* GiB"):
        ModelCache(settings).load(TrainConfig(model="tiny", device="cpu"))


@pytest.fixture
def too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A models folder with a model for which memory is too small, but not for its layers one after
    the other."""
    folder = tmp_path / "models" / "deep"
    save_folder(build_other("llama", num_hidden_layers=6), build_tokenizer(chat=True), folder)
    memory = type("Memory", (), {"available": count_parameters(folder) * 4 - 1})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    return Settings(models_dir=tmp_path / "models", data_dir=tmp_path)


@pytest.mark.parametrize("config_of", [ScoreConfig, EvaluateConfig])
def test_a_run_that_only_scores_reads_a_model_that_is_too_large_layer_by_layer(
    too_large: Settings, config_of: type[ScoreConfig | EvaluateConfig]
) -> None:
    loaded = ModelCache(too_large).load(config_of(model="deep", device="cpu"))
    assert stream_of(loaded.model) is not None
    assert describe_loaded(loaded).endswith(", float32, one layer at a time")
    [note] = loaded.notes
    assert note.startswith("The model needs 0.0 GiB, and cpu has 0.0 GiB free: the layers of the")
    with pytest.raises(ModelError, match="0 million parameters"):
        ModelCache(too_large).load(config_of(model="deep", device="cpu", stream="never"))


def test_other_runs_are_refused_a_model_that_is_too_large(too_large: Settings) -> None:
    for config in (
        GenerateConfig(model="deep", device="cpu"),
        TrainConfig(model="deep", device="cpu"),
        TrainConfig(model="deep", device="cpu", lora=LoraSettings()),
    ):
        with pytest.raises(ModelError, match="0 million parameters"):
            ModelCache(too_large).load(config)


def test_a_kept_model_serves_the_runs_that_may_have_it_as_it_is(settings: Settings) -> None:
    models = ModelCache(settings)
    whole = models.load(ScoreConfig(model="tiny", device="cpu"))
    assert describe_loaded(whole).endswith(", float32")
    streamed = models.load(ScoreConfig(model="tiny", device="cpu", stream="always"))
    assert streamed is not whole
    assert streamed.notes[0].startswith("As asked: the layers of the model are read from disk")
    assert models.load(EvaluateConfig(model="tiny", device="cpu")) is streamed
    assert models.load(ScoreConfig(model="tiny", device="cpu", stream="never")) is not streamed
    models.load(ScoreConfig(model="tiny", device="cpu", stream="always"))
    trained = models.load(TrainConfig(model="tiny", device="cpu"))
    assert stream_of(trained.model) is None


def test_an_adapter_cannot_be_merged_into_layers_that_are_read_one_by_one(
    with_adapter: Settings,
) -> None:
    config = ScoreConfig(model="adapter", device="cpu", stream="always")
    with pytest.raises(ModelError, match="An adapter is merged into whole weights"):
        ModelCache(with_adapter).load(config)


def test_a_hub_model_too_large_is_refused_before_it_is_downloaded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = HubModel("example/huge", "0" * 40, 401_000_000_000, ("model.safetensors",))
    monkeypatch.setattr("worker.models.hub.models.look_up", lambda name, revision: huge)
    monkeypatch.setattr("worker.models.hub.snapshot_download", None)  # not to be reached
    monkeypatch.setattr(loading, "read_causal_lm", None)
    with pytest.raises(ModelError, match=r"“example/huge” has 401,000 million parameters"):
        ModelCache(settings).load(TrainConfig(model="example/huge", device="cpu"))


def test_parameters_are_counted_without_reading_weights(tiny_model_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    assert count_parameters(tiny_model_dir) == sum(p.numel() for p in model.parameters())


def test_downloaded_weights_open_with_from_pretrained(settings: Settings, tmp_path: Path) -> None:
    loaded = ModelCache(settings).load(ScoreConfig(model="tiny", device="cpu"))
    save_folder(loaded.model, loaded.tokenizer, tmp_path / "result")
    pieces = zip_stream(tmp_path / "result", "run-3")
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        archive.extractall(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "run-3")
    for name, weights in loaded.model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weights), name
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run-3")
    assert tokenizer("No, never.")["input_ids"] == loaded.tokenizer("No, never.")["input_ids"]


def test_an_interrupted_save_leaves_the_earlier_folder_whole(
    settings: Settings, tmp_path: Path
) -> None:
    loaded = ModelCache(settings).load(ScoreConfig(model="tiny", device="cpu"))
    folder = tmp_path / "result"
    save_folder(loaded.model, loaded.tokenizer, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    class Broken:
        def save_pretrained(self, _: Path) -> None:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        save_folder(loaded.model, Broken(), folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir() if "result" in entry.name] == ["result"]


def test_what_a_killed_save_left_is_removed_by_the_next_and_one_under_way_stays(
    settings: Settings, tmp_path: Path
) -> None:
    loaded = ModelCache(settings).load(ScoreConfig(model="tiny", device="cpu"))
    folder = tmp_path / "results" / "model"

    class Ending:
        def save_pretrained(self, _: Path) -> None:
            os._exit(9)

    class Saving:
        def save_pretrained(self, unfinished: Path) -> None:
            assert [path.name for path in folder.parent.iterdir()] == [unfinished.name]
            save_folder(loaded.model, loaded.tokenizer, folder)
            loaded.tokenizer.save_pretrained(unfinished)

    if (child := os.fork()) == 0:
        save_folder(loaded.model, Ending(), folder)
    os.waitpid(child, 0)
    [left] = folder.parent.iterdir()
    assert left.name != folder.name
    save_folder(loaded.model, Saving(), folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.starter
def test_the_starter_model_is_dequantized_once_and_answers(
    starter_model: Path, tmp_path: Path
) -> None:
    settings = Settings(models_dir=starter_model.parent, data_dir=tmp_path)
    loaded = ModelCache(settings).load(ScoreConfig(model="smollm2-135m-instruct", device="cpu"))
    [kept] = (tmp_path / "cache" / "gguf").glob("*/")
    written = (kept / "model.safetensors").stat().st_mtime_ns
    ModelCache(settings).load(ScoreConfig(model="smollm2-135m-instruct", device="cpu"))
    assert (kept / "model.safetensors").stat().st_mtime_ns == written
    text = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        tokenize=False,
    )
    ids = loaded.tokenizer(text, return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        answer = loaded.model.generate(**ids, max_new_tokens=12, do_sample=False)
    assert "Paris" in loaded.tokenizer.decode(answer[0])


@pytest.mark.parametrize(
    "field", ["vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "head_dim"]
)
def test_a_configuration_of_a_much_larger_model_is_refused_before_it_is_built(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    folder = tmp_path / "models" / "inflated"
    shutil.copytree(tiny_model_dir, folder)
    described = json.loads((folder / "config.json").read_text())
    described[field] = 10**7
    if field == "num_attention_heads":
        described["head_dim"] = 64
    (folder / "config.json").write_text(json.dumps(described))
    monkeypatch.setattr("worker.models.loading.read_causal_lm", lambda *_: pytest.fail("built"))
    cache = ModelCache(Settings(models_dir=tmp_path / "models", data_dir=tmp_path))
    with pytest.raises(ModelError, match=r"describes a matrix of .* its files hold"):
        cache.load(ScoreConfig(model="inflated", device="cpu"))
