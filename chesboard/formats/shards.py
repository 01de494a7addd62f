"""The files of an archive, and the tables that they make up: shards are one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from chesboard.formats.members import Member
from chesboard.formats.wording import counted

_SHARD = re.compile(r"(?P<stem>.*?)[-_.]?(?P<number>\d{4,6})-of-(?P<total>\d{4,6})(?P<rest>\..*)?$")
_NUMBERED = re.compile(r"(?P<number>\d{4,6})(?P<rest>\.parquet|\.arrow)$")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive. `refusal`: why it is not read, where that is so."""

    name: str
    bytes: int
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Shards(Member):
    """A table of one or more files, in their order."""

    files: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def group_shards(entries: Sequence[Entry]) -> list[Shards]:
    """The tables that files make up, in the order of their first files."""
    groups: dict[tuple[str, str, int | None], list[tuple[int, Entry]]] = {}
    for entry in entries:
        name, rest, total, number = _shard(entry.name)
        groups.setdefault((name, rest, total), []).append((number, entry))
    names = [name for name, _, _ in groups]
    tables = []
    for (name, rest, total), shards in groups.items():
        shards.sort(key=lambda shard: shard[0])
        title = name if names.count(name) == 1 else f"{name}{rest}"
        size = f"{sum(entry.bytes for _, entry in shards):,} bytes"
        if total is not None and len(shards) > 1:
            size = f"{size} in {counted(len(shards), 'file')}"
        files = tuple(entry.name for _, entry in shards)
        tables.append(Shards(title, size, files, _missing(name, [n for n, _ in shards], total)))
    return tables


def _shard(name: str) -> tuple[str, str, int | None, int]:
    """(name of the table, suffix, number of its shards or None, which of them)"""
    path = PurePosixPath(name)
    folder = str(path.parent) if path.parent.name else ""
    if shard := _SHARD.fullmatch(path.name):
        # datasets.save_to_disk calls every file data, in a folder with the name of the split.
        stem = "" if folder and shard["stem"] == "data" else shard["stem"]
        group = "/".join(filter(None, (folder, stem))) or "data"
        return group, shard["rest"] or "", int(shard["total"]), int(shard["number"])
    if folder and (shard := _NUMBERED.fullmatch(path.name)):
        return folder, shard["rest"], 0, int(shard["number"])
    return name, "", None, 0


def _missing(name: str, numbers: list[int], total: int | None) -> tuple[str, ...]:
    missing = sorted(set(range(total or 0)) - set(numbers))
    if not missing:
        return ()
    told = ", ".join(str(number + 1) for number in missing[:10])
    return (f"{name} is incomplete: of {total:,} parts, {told} are not in the archive.",)
