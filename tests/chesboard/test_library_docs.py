"""The examples of docs/library.md run as they are written."""

import dataclasses
import inspect
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import transformers
from typer.testing import CliRunner

import chesboard
from chesboard import cli
from tests.tiny_models import build_llama, build_tokenizer

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "library.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def named_model(monkeypatch):
    """The tiny model in place of the one that the examples name."""
    torch.manual_seed(7)
    model = build_llama()

    def load_model(name, **settings):
        info = {"missing_keys": set(), "mismatched_keys": set()}
        return (model, info) if settings.get("output_loading_info") else model

    def load_tokenizer(name, **_):
        return build_tokenizer(chat=True)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", load_model)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", load_tokenizer)


@pytest.mark.usefixtures("named_model")
def test_the_example_in_python_runs(capsys):
    [code] = blocks("python")
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line[:7] for line in lines) == ["pair 0:", "pair 1:"]
    ranked = [float(line.rpartition(" ")[2]) for line in lines]
    assert ranked == sorted(ranked, reverse=True)


@pytest.mark.usefixtures("named_model")
def test_the_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}))
    Path("pairs.csv").write_text("q,good,bad\na,b,c\n")
    commands = blocks("sh")
    assert len(commands) == 2
    for command in commands:
        program, *arguments = shlex.split(command.replace("\\\n", ""))
        assert program == "chesboard"
        done = CliRunner().invoke(cli.cli, arguments)
        assert done.exit_code == 0, done.output
        assert Path(arguments[arguments.index("-o") + 1]).exists()


def test_every_argument_option_and_field_is_documented():
    for name in [*inspect.signature(chesboard.score).parameters, *chesboard.__all__]:
        assert f"`{name}`" in TEXT or f"chesboard.{name}" in TEXT, name
    for field in dataclasses.fields(chesboard.ScoreRecord):
        assert f"`{field.name}`" in TEXT, field.name
    [command] = [c for c in cli.cli.registered_commands if c.callback is cli.score]
    assert command.callback is not None
    for name in inspect.signature(command.callback).parameters:
        if name not in ("file", "model", "output"):
            assert f"`--{name.replace('_', '-')}`" in TEXT, name
