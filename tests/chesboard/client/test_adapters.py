"""Adapters of other trainers. Their packages are not installed here, so a stand-in has the part of
each that is used: the base class of axolotl's plugins and how it makes one configuration of what
they add, the table of ms-swift's callbacks."""

import importlib.util
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

import chesboard
from chesboard.client.choosing import Cut, of_dataset
from chesboard.swift import PLUGIN
from tests import PROJECT_ROOT
from tests.chesboard.client.trainings import make_trainer, trained
from tests.tiny_models import build_tokenizer


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """A module of this name, and those above it."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
    vars(sys.modules[name]).update(contents)


class BasePlugin:
    """axolotl.integrations.base.BasePlugin, as far as the plugin builds on it."""

    def get_input_args(self) -> str | None: ...

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:
        return []


class AnotherPlugins(BaseModel):
    """What another plugin adds to the configuration. Its class is named Args."""


AnotherPlugins.__name__ = "Args"


class DictDefault(dict[str, Any]):
    """axolotl's configuration: what it lacks is None; what it holds is of the same class."""

    def __getattr__(self, name: str) -> Any:
        found = self.get(name)
        return DictDefault(found) if isinstance(found, dict) else found


def configured(plugin: Any, monkeypatch: pytest.MonkeyPatch, **told: Any) -> DictDefault:
    """The configuration as axolotl makes it: by one class derived from those of all plugins, which
    it imports by their names into one namespace."""
    stand_in(monkeypatch, "another_plugin", Args=AnotherPlugins)
    paths = [one.rpartition(".") for one in (plugin.get_input_args(), "another_plugin.Args")]
    lines = [f"from {module} import {name}" for module, _, name in paths]
    bases = ", ".join(name for _, _, name in paths)
    namespace: dict[str, Any] = {}
    exec("\n".join([*lines, f"class Merged({bases}): pass"]), namespace)
    return DictDefault(namespace["Merged"](**told).model_dump(exclude_none=True))


def test_the_plugin_for_axolotl_watches_its_trainer(monkeypatch, tmp_path, server) -> None:
    stand_in(monkeypatch, "axolotl.integrations.base", BasePlugin=BasePlugin)
    monkeypatch.delitem(sys.modules, "chesboard.axolotl", raising=False)
    from chesboard.axolotl import Plugin

    plugin = Plugin()
    told = {"probe_every": 1, "url": server.url, "name": "mine"}
    cfg = configured(plugin, monkeypatch, chesboard=told)
    trainer = make_trainer(tmp_path, max_steps=2)
    for callback in plugin.add_callbacks_post_trainer(cfg, trainer):  # as axolotl does
        trainer.add_callback(callback)
    trainer.train()
    assert server.only.looks == [0, 1, 2]
    assert server.only.body["name"] == "mine"
    [default] = plugin.add_callbacks_post_trainer(configured(plugin, monkeypatch), trainer)
    assert isinstance(default, chesboard.Callback)


def test_ms_swift_finds_the_callback_by_its_name(monkeypatch, tmp_path, server) -> None:
    callbacks_map: dict[str, Any] = {}
    stand_in(monkeypatch, "swift.callbacks", callbacks_map=callbacks_map)
    monkeypatch.setenv("CHESBOARD_URL", server.url)
    spec = importlib.util.spec_from_file_location("_swift_external", PLUGIN)  # as ms-swift does
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    callback = callbacks_map["chesboard"](SimpleNamespace(), SimpleNamespace())
    trained(tmp_path, callbacks=[callback], max_steps=1)
    assert server.only.looks == [0, 1]


def test_the_folder_of_the_plugin_hides_no_module() -> None:
    """ms-swift puts it before all others that modules are looked for in."""
    names = {path.stem for path in PLUGIN.parent.glob("*.py")}
    assert names == {"__init__", "chesboard_plugin"}
    done = subprocess.run(
        [sys.executable, "-m", "chesboard.swift"],
        env={"PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(PLUGIN)


def test_rows_of_llama_factory_and_ms_swift_are_pairs() -> None:
    rows = [
        {
            "chosen_input_ids": [1, 2, 3, 4], "chosen_labels": [-100, -100, 3, 4],
            "rejected_input_ids": [1, 2, 5], "rejected_labels": [-100, -100, 5],
        },
        {  # prompts that differ
            "chosen_input_ids": [1, 2, 3], "chosen_labels": [-100, -100, 3],
            "rejected_input_ids": [1, 6, 5], "rejected_labels": [-100, -100, 5],
        },
    ]  # fmt: skip
    [pair] = of_dataset(rows, build_tokenizer(chat=False), 4, Cut())
    assert (pair.prompt_ids, pair.preferred_ids, pair.dispreferred_ids) == ([1, 2], [3, 4], [5])
