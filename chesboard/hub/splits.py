"""Which files of a dataset's repository make which split, by its card and by the files' names.

A card (README.md) with `configs:` says it. Otherwise folders are configurations and names are
splits, as the hub writes them: `data/train-00000-of-00003.parquet`, `train.jsonl.gz`,
`default/train/0000.parquet`, `helpful-base/test.jsonl`. Files that are not the shards of one
table are never put together because they lie side by side: each is a split of its own.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from chesboard.formats.file_names import STORED_KINDS, Kind, is_description, kind_of_name
from chesboard.formats.unpacking import without_suffix

PREFERENCE = (*STORED_KINDS, "jsonl", "json", "csv")
"""Of a split that is there in several kinds of file, the first is read under its plain name."""

SYNONYMS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
DEFAULT_CONFIG = "default"
DEFAULT_SPLIT = "train"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub lists it. sha256: of its content, where the hub keeps it outside of git;
    else blob_id is git's id of it."""

    path: str
    size: int
    blob_id: str = ""
    sha256: str | None = None

    @property
    def kind(self) -> Kind | None:
        """None for a file that is no table."""
        path = PurePosixPath(self.path)
        hidden = any(part.startswith((".", "_")) for part in path.parts)
        return None if hidden or is_description(path.name) else kind_of_name(path.name)


@dataclass(frozen=True, slots=True)
class HubSplit:
    """The files of one split in their order. is_default: of the configuration that is taken if
    none is named."""

    config: str
    name: str
    files: tuple[HubFile, ...]
    is_default: bool = False

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def find_splits(files: Iterable[HubFile], card: Mapping[str, Any] | None = None) -> list[HubSplit]:
    """The splits of a repository. card: the metadata of its README.md."""
    tables = [file for file in files if file.kind is not None]
    configs = [one for one in _listed((card or {}).get("configs")) if isinstance(one, dict)]
    if any(_says_where(config) for config in configs):
        return [split for config in configs for split in _of_config(config, tables)]
    return _by_name(tables)


def _says_where(config: Mapping[str, Any]) -> bool:
    return bool(config.get("data_files") or config.get("data_dir"))


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _of_config(config: Mapping[str, Any], tables: Sequence[HubFile]) -> Iterator[HubSplit]:
    name = str(config.get("config_name") or DEFAULT_CONFIG)
    is_default = bool(config.get("default")) or name == DEFAULT_CONFIG
    folder = str(config.get("data_dir") or "").strip("/")
    if not config.get("data_files"):
        inside = [file for file in tables if file.path.startswith(f"{folder}/")]
        for found in _by_name(inside, folder):
            yield HubSplit(name, found.name, found.files, is_default)
        return
    for split, patterns in _patterns(config["data_files"]).items():
        wanted = [f"{folder}/{one}".lstrip("/") for one in patterns]
        matching = [f for f in tables if any(matches(f.path, one) for one in wanted)]
        if matching:
            yield HubSplit(name, split, _in_order(matching), is_default)


def _patterns(data_files: object) -> dict[str, list[str]]:
    """Split → patterns, of the forms that a card may have them in."""
    if isinstance(data_files, dict):
        return {str(split): [str(p) for p in _listed(path)] for split, path in data_files.items()}
    found: dict[str, list[str]] = {}
    for one in _listed(data_files):
        split, paths = DEFAULT_SPLIT, one
        if isinstance(one, dict):
            split, paths = str(one.get("split") or DEFAULT_SPLIT), one.get("path")
        found.setdefault(split, []).extend(str(path) for path in _listed(paths))
    return found


def matches(path: str, pattern: str) -> bool:
    """Whether a path is of a pattern in which `*` stands for a part of a name and `**` for any
    folders."""
    return _parts_match(path.split("/"), pattern.removeprefix("./").split("/"))


def _parts_match(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_parts_match(path[skip:], pattern[1:]) for skip in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _parts_match(path[1:], pattern[1:])


_NUMBERED = re.compile(
    r"(?:^|[-_.])(?:\d{5}-of-\d{5}(?:-[0-9a-f]{16})?|(?:part|shard|chunk)[-_.]?\d+.*|\d{5,})$"
)
"""The end of a shard's name, as the hub, Spark and others write it."""


def _by_name(tables: Iterable[HubFile], root: str = "") -> list[HubSplit]:
    groups: dict[tuple[str, str, str], list[HubFile]] = {}
    for file in tables:
        config, split = _config_and_split(file.path.removeprefix(f"{root}/" if root else ""))
        groups.setdefault((config, split, file.kind or ""), []).append(file)
    if len(groups) == 1:
        ((config, split, kind),) = groups
        # The hub's name for the split of a repository that has but one.
        named = split if split in SYNONYMS else DEFAULT_SPLIT
        groups = {(config, named, kind): groups[config, split, kind]}
    return [
        HubSplit(key[0], _told_apart(key, groups), _in_order(of), key[0] == DEFAULT_CONFIG)
        for key, of in groups.items()
    ]


def _config_and_split(path: str) -> tuple[str, str]:
    *folders, filename = path.split("/")
    stem = PurePosixPath(without_suffix(filename)).stem
    base = "" if stem.isdigit() else _NUMBERED.sub("", stem)
    if folders and (not base or (folders[-1] in SYNONYMS and base not in SYNONYMS)):
        base = folders.pop()
    if folders and folders[0] == "data":
        folders = folders[1:]
    return "/".join(folders) or DEFAULT_CONFIG, base or DEFAULT_SPLIT


def _told_apart(key: tuple[str, str, str], groups: Iterable[tuple[str, str, str]]) -> str:
    """The name of a split. One that is there in two kinds of file is not read from both."""
    config, split, kind = key
    kinds = [other for of, name, other in groups if (of, name) == (config, split)]
    return split if min(kinds, key=PREFERENCE.index) == kind else f"{split}.{kind}"


def _in_order(files: Iterable[HubFile]) -> tuple[HubFile, ...]:
    """By path, numbers by their value."""
    return tuple(sorted(files, key=lambda file: _natural(file.path)))


def _natural(path: str) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)]
