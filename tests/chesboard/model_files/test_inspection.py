"""Folders that are models, that look like models, and that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from chesboard.model_files import architectures
from chesboard.model_files.folder import model_at
from chesboard.model_files.inspection import inspect, weight_files
from tests.model_folders import GGUF, safetensors, write_adapter, write_model


def problem(folder: Path) -> str:
    found = model_at(folder)
    assert found is not None, "it does not look like a model"
    return found.problem or ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def test_a_whole_model_has_no_problem(folder: Path) -> None:
    found = inspect(folder)
    assert found is not None
    assert (found.kind, found.weights) == ("folder", (folder / "model.safetensors",))
    assert problem(folder) == ""


def test_other_files_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.md").write_text("a")
    (tmp_path / "notes" / "optimizer.pt").write_text("a")
    (tmp_path / "notes" / "training_args.bin").write_text("a")
    assert inspect(tmp_path / "notes") is None
    assert inspect(tmp_path / "notes" / "readme.md") is None
    assert inspect(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pytorch_model.bin", "(pytorch_model.bin). Pickles are never opened"),
        ("consolidated.00.pth", "Pickles are never opened"),
        ("model.pt", "Pickles are never opened"),
        ("last.ckpt", "save_pretrained, which writes safetensors"),
        ("model.onnx", "weights for ONNX only"),
        ("tf_model.h5", "weights for TensorFlow only"),
        ("flax_model.msgpack", "weights for Flax only"),
        ("weights.npz", "weights for MLX or NumPy only"),
    ],
)
def test_weights_of_other_kinds_are_named(folder: Path, name: str, said: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"x")
    assert said in problem(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is missing" in problem(folder)


def index(folder: Path, *files: str) -> None:
    weight_map = {f"t{number}": file for number, file in enumerate(files)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def sharded(folder: Path) -> Path:
    (folder / "model.safetensors").rename(folder / PARTS[0])
    (folder / PARTS[1]).write_bytes(safetensors(3))
    index(folder, *PARTS)
    return folder


def test_parts_are_those_of_the_index(sharded: Path) -> None:
    (sharded / "consolidated.safetensors").write_bytes(safetensors(9))
    assert weight_files(sharded) == tuple(sharded / part for part in PARTS)
    assert problem(sharded) == ""


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_part_is_named(sharded: Path, missing: int) -> None:
    (sharded / PARTS[missing]).unlink()
    assert problem(sharded).startswith(f"{PARTS[missing]}, which model.safetensors.index.json")


def test_all_parts_missing_are_named(sharded: Path) -> None:
    for part in PARTS:
        (sharded / part).unlink()
    assert PARTS[0] in problem(sharded)


def test_parts_without_an_index_ask_for_it(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    assert "nor model.safetensors.index.json" in problem(sharded)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}']
)
def test_a_damaged_index_is_named(sharded: Path, content: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    assert problem(sharded).startswith("model.safetensors.index.json")


def test_an_index_names_no_file_outside(sharded: Path) -> None:
    index(sharded, "../../secret.safetensors")
    assert problem(sharded).startswith("secret.safetensors, which")


def test_another_name_of_the_weights_is_said(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert "has consolidated.safetensors, but neither model.safetensors nor" in problem(folder)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_was_cut_off_is_named(sharded: Path, part: str) -> None:
    whole = (sharded / part).read_bytes()
    (sharded / part).write_bytes(whole[:-1] if part == PARTS[1] else whole[:20])
    assert problem(sharded).startswith(f"{part} is cut off")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "config.json is missing"),
        ("", "config.json is empty"),
        ("{", "config.json is damaged"),
        ("[]", "config.json holds no JSON object"),
        ("{}", "no `model_type`"),
        ("version https://git-lfs.github.com/spec/v1\n", "config.json is a Git LFS pointer"),
    ],
)
def test_a_configuration_that_is_none_is_named(
    folder: Path, content: str | None, said: str
) -> None:
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    assert said in problem(folder)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "a classifier or reward model"),
        ({"architectures": ["LlamaForTokenClassification"]}, "a classifier of tokens"),
        ({"architectures": ["InternLM2ForRewardModel"]}, "is a reward model"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "is an encoder"),
        ({"model_type": "roberta", "architectures": ["RobertaModel"]}, "is an encoder"),
        ({"model_type": "modernbert", "architectures": []}, "modernbert is an encoder"),
        (
            {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}
            | {"is_encoder_decoder": True},
            "is an encoder-decoder",
        ),
        (
            {"model_type": "bart", "architectures": ["BartForConditionalGeneration"]},
            "is an encoder-decoder",
        ),
        (
            {"model_type": "qwen2_vl", "architectures": ["Qwen2VLForConditionalGeneration"]},
            "reads images or sound beside text",
        ),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "no causal language model"),
        ({"model_type": "llama99"}, "newer than this server's transformers"),
        (
            {"model_type": "mine", "auto_map": {"AutoConfig": "configuration_mine.Mine"}},
            "code is never run",
        ),
        ({"quantization": {"group_size": 64, "bits": 4}}, "quantized for MLX"),
    ],
)
def test_a_model_of_another_kind_is_refused_by_name(
    folder: Path, config: dict[str, Any], said: str
) -> None:
    write_model(folder, **config)
    assert said in problem(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
        {"model_type": "bert", "is_decoder": True, "architectures": ["BertLMHeadModel"]},
        {"model_type": "bart", "architectures": ["BartForCausalLM"]},
        {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]},
        {"model_type": "phi3", "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}},
        {"architectures": None},
    ],
)
def test_what_may_be_a_causal_language_model_is_not_refused(
    folder: Path, config: dict[str, Any]
) -> None:
    write_model(folder, **config)
    assert problem(folder) == ""


def test_tables_of_model_types_are_those_of_transformers() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    tables = architectures.transformers_tables()
    assert tables is not None
    assert tables.causal == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert {"llama", "bert", "t5"} <= tables.known


def test_without_tables_the_worker_is_left_to_find_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(architectures, "transformers_tables", lambda: None)
    write_model(folder, model_type="llama99")
    assert problem(folder) == ""


@pytest.mark.parametrize(
    ("architecture", "tied", "tensor", "refused"),
    [
        ("LlamaModel", False, "embed_tokens.weight", True),
        ("LlamaModel", True, "embed_tokens.weight", False),
        ("LlamaModel", None, "embed_tokens.weight", False),
        ("LlamaModel", False, "lm_head.weight", False),
        ("GPTNeoXModel", False, "embed_out.weight", False),
        ("LlamaForCausalLM", False, "embed_tokens.weight", False),
    ],
)
def test_a_model_without_its_output_head_is_refused_where_that_is_certain(
    tmp_path: Path, architecture: str, tied: bool | None, tensor: str, refused: bool
) -> None:
    folder = write_model(tmp_path / "m", architectures=[architecture], tie_word_embeddings=tied)
    (folder / "model.safetensors").write_bytes(safetensors(name=tensor))
    assert ("without an output head (lm_head.weight)" in problem(folder)) == refused


def test_an_embedding_model_is_refused(folder: Path) -> None:
    (folder / "modules.json").write_text("[]")
    assert "an embedding model" in problem(folder)


def test_a_missing_tokenizer_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer: copy tokenizer.json" in problem(folder)


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json", "spiece.model", "q.tiktoken"])
def test_any_kind_of_tokenizer_is_one(folder: Path, name: str) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / name).write_text("{}")
    assert problem(folder) == ""


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_was_cut_off_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text('{"version": "1.0", "added')
    assert problem(folder).startswith(f"{name} is cut off")


def test_the_first_gguf_file_of_a_folder_is_read(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf"):
        (tmp_path / name).write_bytes(GGUF)
    found = inspect(tmp_path)
    assert found is not None
    assert (found.kind, found.weights) == ("gguf", (tmp_path / "a.gguf",))


def test_a_part_of_a_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m-00001-of-00003.gguf").write_bytes(GGUF)
    assert "one of 3 parts" in problem(tmp_path)


ADAPTER_PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"peft_type": "PROMPT_TUNING"}, "prompt tuning (PROMPT_TUNING), which cannot be merged"),
    ({"peft_type": "PREFIX_TUNING"}, "prefix tuning"),
    ({"peft_type": None}, "no `peft_type`"),
    ({"task_type": "SEQ_CLS"}, "trained for SEQ_CLS"),
    ({"base_model_name_or_path": None}, "does not name the adapter's base model"),
]


@pytest.mark.parametrize(("config", "said"), ADAPTER_PROBLEMS)
def test_adapters_that_cannot_be_merged_say_why(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    write_adapter(tmp_path / "a", "org/base", **config)
    assert said in problem(tmp_path / "a")


def test_pickled_and_missing_weights_of_an_adapter_are_named(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", "org/base")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "pickled (adapter_model.bin)" in problem(folder)
    (folder / "adapter_model.bin").unlink()
    assert "adapter_model.safetensors is missing" in problem(folder)


def test_an_adapter_beside_its_model_goes_with_it(folder: Path) -> None:
    for base in (None, "org/model", "/home/me/model", "C:\\models\\model"):
        write_adapter(folder, base)
        found = inspect(folder)
        assert found is not None
        assert found.kind == "folder"
        assert found.adapter is not None
        assert problem(folder) == ""


def test_an_adapter_of_another_model_beside_a_model_is_refused(folder: Path) -> None:
    """The model may be what merging gave: merged twice, its numbers would be about nothing."""
    write_adapter(folder, "org/base")
    assert "whether the model is that base or has the adapter merged already" in problem(folder)


@pytest.mark.parametrize("part", [None, "text_config"])
@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layer"])
def test_more_layers_than_the_files_can_hold_are_refused(
    folder: Path, key: str, part: str | None
) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    (config.setdefault(part, {}) if part else config)[key] = 100_000_000
    file.write_text(json.dumps(config))
    assert "config.json tells of 100,000,000 layers, and the files hold" in problem(folder)
