"""The models folder: what is in it by name, and what a name leads to.

Names are those of entries of the folder, of folders one level down (`org/name`), and of models in
the layout of the hub's cache (`models--org--name`), as org/name. Links are followed: only who runs
the server can put them there. No name leads out of the folder by itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from chesboard.model_files.adapters import base_folder_name, hub_name_of_snapshot
from chesboard.model_files.inspection import ModelFiles, has_tokenizer, inspect

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
""""org/name" as on the Hugging Face hub. Neither part can be a path ("..", "/etc")."""
_CACHED = re.compile(r"models--(?!-)(.+?)--(.+)")


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model of the models folder."""

    name: str
    path: Path
    files: ModelFiles
    base: "FoundModel | str | None" = None
    """Of an adapter alone: its base in the models folder, or the base's hub name."""
    problem: str | None = None
    """Why it cannot be used, as sentences; None if nothing speaks against it."""


def list_models(root: Path) -> list[FoundModel]:
    """What is or looks like a model, by name."""
    if not root.is_dir():
        return []
    found = (_found(root, name, path, files) for name, path, files in _entries(root))
    return sorted((one for one in found if one is not None), key=lambda model: model.name)


def find_model(root: Path, name: str) -> FoundModel | None:
    """The model of that name; None if the folder has none."""
    path = _path_of(root, name)
    return None if path is None else _found(root, name, path, inspect(path))


def model_at(path: Path) -> FoundModel | None:
    """The model at any path of this machine, for whoever may name one; None if there is none.

    The base of an adapter is looked for beside it, and where the adapter says that it is.
    """
    found = _found(path.parent, path.name, path, inspect(path))
    named = found.files.adapter.base if found is not None and found.files.adapter else None
    if found is None or found.files.kind != "adapter" or found.base is not None or named is None:
        return found
    place = Path(named).expanduser()
    base = _found(place.parent, place.name, place, inspect(place)) if place.exists() else None
    return found if base is None else _with_base(found, named, base)


def _found(root: Path, name: str, path: Path, files: ModelFiles | None) -> FoundModel | None:
    if path.is_symlink() and not path.exists():
        problem = "This is a link that leads to nothing."
        return FoundModel(name, path, ModelFiles("folder", problem=problem), None, problem)
    if files is None:
        return None
    found = FoundModel(name, path, files, None, files.problem or files.tokenizer_problem)
    if files.kind != "adapter" or files.adapter is None or found.problem:
        return found
    base = _find_base(root, path, files.adapter.base)
    return _with_base(found, files.adapter.base, base)


def _with_base(adapter: FoundModel, named: str | None, base: FoundModel | str | None) -> FoundModel:
    return replace(adapter, base=base, problem=_base_problem(named, base, adapter.path))


def _entries(root: Path) -> Iterator[tuple[str, Path, ModelFiles | None]]:
    """All that may be a model: names, paths, and what is there."""
    for path in _children(root):
        if cached := _CACHED.fullmatch(path.name):
            yield _cached(cached, path)
            continue
        files = inspect(path)
        if files is None and path.is_dir():
            for child in _children(path):
                if cached := _CACHED.fullmatch(child.name):
                    if path.name == "hub":  # a whole HF_HOME
                        yield _cached(cached, child)
                elif child.is_dir() or child.suffix == ".gguf":
                    yield f"{path.name}/{child.name}", child, inspect(child)
        else:
            yield path.name, path, files


def _cached(named: re.Match[str], folder: Path) -> tuple[str, Path, ModelFiles | None]:
    path = _snapshot(folder)
    return f"{named[1]}/{named[2]}", path, inspect(path)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name[0] != ".")
    except OSError:  # not for this user to read
        return []


def _path_of(root: Path, name: str) -> Path | None:
    parts = name.split("/")
    if len(parts) > 2 or any(part[:1] in ("", ".") or "\\" in part for part in parts):
        return None
    path = root.joinpath(*parts)
    if path.exists() or path.is_symlink():
        return path
    if len(parts) == 2:
        for place in (root, root / "hub"):
            if (cached := place / f"models--{parts[0]}--{parts[1]}").is_dir():
                return _snapshot(cached)
    return None


def _snapshot(cached: Path) -> Path:
    """The folder of the files of a model in a hub cache: what `main` points to, else the latest."""
    snapshots = cached / "snapshots"
    ref = cached / "refs" / "main"
    try:  # a pipe would be waited for
        commit = ref.read_text().strip() if ref.is_file() else ""
    except (OSError, UnicodeDecodeError):
        commit = ""
    if re.fullmatch(r"\w+", commit) and (snapshots / commit).is_dir():
        return snapshots / commit
    found = sorted(_children(snapshots), key=lambda folder: folder.stat().st_mtime)
    return found[-1] if found else snapshots


def _find_base(root: Path, adapter: Path, base: str | None) -> FoundModel | str | None:
    """In the models folder by its hub name or the last part of its path; else its hub name."""
    if base is None:
        return None
    hub_name = hub_name_of_snapshot(base) or (base if HUB_NAME.fullmatch(base) else None)
    for name in (hub_name, base_folder_name(base)):
        path = None if name is None else _path_of(root, name)
        if name is None or path is None or path.resolve() == adapter.resolve():
            continue
        files = inspect(path)
        if files is not None:
            return FoundModel(name, path, files, None, files.problem or files.tokenizer_problem)
    return hub_name


def _base_problem(named: str | None, base: FoundModel | str | None, adapter: Path) -> str | None:
    if named is None:
        return (
            "adapter_config.json does not name the adapter's base model: write its name there, as "
            "`base_model_name_or_path`."
        )
    if base is None:
        return (
            f"This is an adapter of “{named}”, which is not here. Put that model into the "
            f"models folder as “{base_folder_name(named)}”."
        )
    if isinstance(base, str):
        return None
    if base.files.adapter is not None:
        return (
            f"This is an adapter of “{named}”, which has an adapter itself. Merge that one into "
            "its base first (peft's merge_and_unload), and save the whole model."
        )
    problem = base.files.problem if has_tokenizer(adapter) else base.problem
    return problem and f"This is an adapter of “{named}”, which cannot be used. {problem}"
