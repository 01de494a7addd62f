"""Names of the models folder and what they lead to."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chesboard.model_files.folder import FoundModel, find_model, list_models
from tests.model_folders import GGUF, write_adapter, write_model


def names(root: Path) -> list[str]:
    found = list_models(root)
    for model in found:
        again = find_model(root, model.name)
        assert again is not None
        assert again.path == model.path
    return [model.name for model in found]


def test_models_one_folder_down_have_two_part_names(tmp_path: Path) -> None:
    write_model(tmp_path / "org" / "a")
    (tmp_path / "org" / "b.gguf").write_bytes(GGUF)
    write_model(tmp_path / "c")
    # Checkpoints inside a model's folder are not listed, and can be named.
    write_model(tmp_path / "c" / "checkpoint-5")
    assert names(tmp_path) == ["c", "org"]
    (tmp_path / "org" / "b.gguf").unlink()
    assert names(tmp_path) == ["c", "org/a"]
    assert find_model(tmp_path, "c/checkpoint-5") is not None


def cached(root: Path, name: str, commit: str, main: str | None = None) -> Path:
    """A model as the hub's cache holds it: a snapshot of links to blobs."""
    repository = root / f"models--{name.replace('/', '--')}"
    snapshot = write_model(repository / "snapshots" / commit)
    (repository / "blobs").mkdir(exist_ok=True)
    for number, file in enumerate(sorted(snapshot.iterdir())):
        blob = repository / "blobs" / f"{commit}{number}"
        file.rename(blob)
        file.symlink_to(Path("../..") / "blobs" / blob.name)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(main or commit)
    return snapshot


@pytest.mark.parametrize("place", ["", "hub"])
def test_the_layout_of_the_hub_s_cache_is_read(tmp_path: Path, place: str) -> None:
    snapshot = cached(tmp_path / place, "org/some-model", "abc")
    assert names(tmp_path) == ["org/some-model"]
    found = find_model(tmp_path, "org/some-model")
    assert found is not None
    assert (found.path, found.problem) == (snapshot, None)


def test_of_several_snapshots_main_is_taken(tmp_path: Path) -> None:
    first = cached(tmp_path, "org/m", "abc")
    cached(tmp_path, "org/m", "def", main="abc")
    found = find_model(tmp_path, "org/m")
    assert found is not None
    assert found.path == first


def test_a_pipe_in_place_of_main_is_not_waited_for(tmp_path: Path) -> None:
    first, latest = (cached(tmp_path, "org/m", commit) for commit in ("abc", "def"))
    os.utime(first, (0, 0))
    main = tmp_path / "models--org--m" / "refs" / "main"
    main.unlink()
    os.mkfifo(main)
    pipe = os.open(main, os.O_RDWR)
    os.write(pipe, b"abc")
    threading.Timer(0.2, os.close, [pipe]).start()  # who reads it waits so long, and gets abc
    found = find_model(tmp_path, "org/m")
    assert found is not None
    assert found.path == latest


def test_a_download_that_is_not_finished_is_a_problem(tmp_path: Path) -> None:
    snapshot = cached(tmp_path, "org/m", "abc")
    (snapshot / "model.safetensors").resolve().unlink()
    [model] = list_models(tmp_path)
    assert model.problem


def test_links_are_followed_and_broken_ones_said(tmp_path: Path) -> None:
    outside = cached(tmp_path / "cache", "org/m", "abc")
    root = tmp_path / "models"
    root.mkdir()
    (root / "linked").symlink_to(outside)
    (root / "broken").symlink_to(tmp_path / "nothing")
    assert names(root) == ["broken", "linked"]
    broken, linked = list_models(root)
    assert broken.problem == "This is a link that leads to nothing."
    assert linked.problem is None


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/..", "a/../b", "/a", "a/b/c", ".hidden", "a/.git", "..\\a", "a\\b"],
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "models"
    write_model(root / "a")
    write_model(tmp_path / "outside")
    write_model(root / ".hidden")
    assert find_model(root, name) is None


@given(name=st.text(alphabet="a./\\~- \0", max_size=9))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_stays_inside(tmp_path: Path, name: str) -> None:
    root = tmp_path / "models"
    write_model(
        root / "a",
    )
    write_model(tmp_path / "aa")
    found = find_model(root, name)
    assert found is None or found.path.resolve().is_relative_to(root.resolve())


@pytest.mark.parametrize(
    "base",
    [
        "tiny",
        "org/tiny",
        "/home/me/models/tiny",
        "/home/me/models/tiny/",
        "./tiny",
        "C:\\models\\tiny",
        "/root/.cache/huggingface/hub/models--org--tiny/snapshots/0123abc",
    ],
)
def test_the_base_of_an_adapter_is_found_by_the_last_part_of_its_name(
    tmp_path: Path, base: str
) -> None:
    write_model(tmp_path / "tiny")
    write_adapter(tmp_path / "adapter", base)
    found = find_model(tmp_path, "adapter")
    assert found is not None
    assert isinstance(found.base, FoundModel)
    assert (found.base.name, found.problem) == ("tiny", None)


@pytest.mark.parametrize(
    "base", ["org/tiny", "/root/.cache/huggingface/hub/models--org--tiny/snapshots/0123abc"]
)
def test_a_base_that_is_not_here_may_be_a_hub_name(tmp_path: Path, base: str) -> None:
    write_adapter(tmp_path / "adapter", base)
    found = find_model(tmp_path, "adapter")
    assert found is not None
    assert (found.base, found.problem) == ("org/tiny", None)


def test_a_base_in_the_layout_of_the_hub_s_cache_is_found(tmp_path: Path) -> None:
    snapshot = cached(tmp_path, "org/tiny", "abc")
    write_adapter(tmp_path / "adapter", "org/tiny")
    found = find_model(tmp_path, "adapter")
    assert found is not None
    assert isinstance(found.base, FoundModel)
    assert found.base.path == snapshot


def test_an_adapter_is_not_its_own_base(tmp_path: Path) -> None:
    write_adapter(tmp_path / "tiny", "/home/me/tiny")
    found = find_model(tmp_path, "tiny")
    assert found is not None
    assert "Put that model into the models folder as “tiny”" in (found.problem or "")


def test_a_base_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", "tiny")
    write_model(tmp_path / "tiny", architectures=["LlamaForSequenceClassification"])
    found = find_model(tmp_path, "adapter")
    assert found is not None
    assert "which cannot be used. LlamaForSequenceClassification is" in (found.problem or "")


def test_an_adapter_of_an_adapter_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "tiny")
    write_adapter(tmp_path / "first", "tiny")
    write_adapter(tmp_path / "second", "first")
    found = find_model(tmp_path, "second")
    assert found is not None
    assert "which has an adapter itself" in (found.problem or "")


def test_an_adapter_may_bring_the_tokenizer_that_its_base_lacks(tmp_path: Path) -> None:
    (write_model(tmp_path / "tiny") / "tokenizer.json").unlink()
    adapter = write_adapter(tmp_path / "adapter", "tiny")
    assert (found := find_model(tmp_path, "adapter")) is not None
    assert "has no tokenizer" in (found.problem or "")
    (adapter / "tokenizer.json").write_text("{}")
    assert (found := find_model(tmp_path, "adapter")) is not None
    assert found.problem is None


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(
    tmp_path: Path, name: str
) -> None:
    folder = write_model(tmp_path / "held")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    found = find_model(tmp_path, "held")
    assert found is not None
    assert f"{name} is no file" in (found.problem or "")
