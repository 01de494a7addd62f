"""The pages on outside runs: the loop runs as it is written, and every setting is named."""

import inspect
import re
from pathlib import Path

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
