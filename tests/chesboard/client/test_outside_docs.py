"""The pages on outside runs: what they say to write runs as it is written, and every
setting is named."""

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers

import chesboard
from chesboard.client import environment
from chesboard.client.about import PROBING
from chesboard.client.callback import Callback
from chesboard.client.watch import Watch
from tests import PROJECT_ROOT
from tests.tiny_models import build_llama, build_tokenizer

PAGES = PROJECT_ROOT / "docs" / "outside-runs"


def block(page: str, language: str) -> str:
    [found, *_] = re.findall(
        rf"^```{language}\n(.*?)^```$", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL
    )
    return found


def test_the_loop_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHESBOARD_URL", server.url)
    torch.manual_seed(7)
    model = build_llama()
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda _: model)
    monkeypatch.setattr(
        transformers.AutoTokenizer, "from_pretrained", lambda _: build_tokenizer(chat=True)
    )
    exec(block("own-loop.md", "python"), {})
    assert server.only.steps == [1, 2, 3]
    assert server.only.looks == [0, 3]
    assert server.only.status == "succeeded"


def test_the_page_on_llama_factory_tells_the_callback_beta(tmp_path, monkeypatch, server) -> None:
    """LLaMA-Factory keeps beta in arguments of its own, of which a callback sees nothing."""

    def run_exp(args: Any = None, callbacks: Any = None) -> None:
        [callback] = callbacks
        bare = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
        state = transformers.TrainerState(global_step=0, max_steps=1)
        model, tokenizer = build_llama(), build_tokenizer(chat=True)
        callback.on_train_begin(bare, state, None, model=model, processing_class=tokenizer)
        state.global_step = 1
        callback.on_log(bare, state, None, logs={"loss": 0.7, "rewards/margins": 0.3})
        callback.on_train_end(bare, state, None)

    for name in ("llamafactory", "llamafactory.train", "llamafactory.train.tuner"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    vars(sys.modules["llamafactory.train.tuner"])["run_exp"] = run_exp
    monkeypatch.setenv("CHESBOARD_URL", server.url)
    exec(block("llama-factory.md", "python"), {})
    assert server.only.body["config"]["objective"] == "dpo"
    [metric] = [record for record in server.only.records.values() if record["kind"] == "metric"]
    assert metric["margin"] == pytest.approx(0.3 / 0.1)


def test_every_setting_and_variable_is_named() -> None:
    text = (PAGES / "README.md").read_text()
    inner = {"self", "model", "tokenizer", "resumed_step", "cut", "settings", "probing", "notes"}
    names = {
        *inspect.signature(Callback.__init__).parameters,
        *inspect.signature(Watch._begin).parameters,
        *PROBING,
        "prompts",
    } - inner
    missing = [name for name in sorted(names - {"output_dir"}) if f"`{name}`" not in text]
    assert missing == []
    variables = set(re.findall(r"CHESBOARD_[A-Z]+", inspect.getsource(environment)))
    assert variables == set(re.findall(r"CHESBOARD_[A-Z]+", text))


def test_every_page_is_linked() -> None:
    text = (PAGES / "README.md").read_text()
    for page in PAGES.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in text, page.name


def test_watch_documents_its_arguments() -> None:
    text = chesboard.watch.__doc__ or ""
    for name in (*PROBING, "prompts", "resume", "dataset_id", "compute_dtype"):
        assert name in text, name
