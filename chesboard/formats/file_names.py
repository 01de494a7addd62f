"""What the name of a file says of it: the kind of its table, or that it is none."""

import re
from pathlib import PurePosixPath
from typing import Literal, get_args

from chesboard.formats.unpacking import without_suffix

TextKind = Literal["jsonl", "json", "csv"]
StoredKind = Literal["parquet", "arrow", "orc"]
Kind = Literal[TextKind, StoredKind]

STORED_KINDS: tuple[StoredKind, ...] = get_args(StoredKind)
"""Tables whose schema is at their end, so that a part of one cannot be read."""

KINDS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".orc": "orc",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".psv": "csv",
}
"""The kinds of table by the suffix before that of a compression."""

_NO_TABLE = re.compile(
    r"(?:readme|license|licence|notice|citation|changelog|contributing|makefile|dockerfile)\b.*"
    r"|(?:dataset_infos?|dataset_dict|state|metadata|config|package)\.json",
    re.I,
)
"""Files that describe a dataset, and are none."""


def kind_of_name(name: str) -> Kind | None:
    """The kind of table that a file is by its name; None for a name that says none."""
    return KINDS.get(suffix_of(name))


def suffix_of(name: str) -> str:
    """The suffix in lower case, without that of a compression."""
    return PurePosixPath(without_suffix(name)).suffix.lower()


def is_description(name: str) -> bool:
    """Whether a file with this name, without its folders, describes a dataset and is none."""
    return _NO_TABLE.fullmatch(name) is not None
