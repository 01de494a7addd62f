"""Rows of a dataset that is named on the command line."""

import json

import pytest

from chesboard.formats.rows import SourceRow
from chesboard.hub.errors import HubRequestError
from chesboard.hub.repository import SplitError
from chesboard.hub.rows import rows_named
from tests.hub_server import HubServer, Repo

NAME = "acme/pairs"


def jsonl(*values: str) -> bytes:
    return b"".join(json.dumps({"text": value}).encode() + b"\n" for value in values)


def read(named: str) -> list[tuple[int, str]]:
    with rows_named(named, 10_000, lambda _: None) as (rows, _):
        return [(row.row, row.columns["text"]) for row in rows if isinstance(row, SourceRow)]


def test_a_split_is_named_with_its_configuration_and_revision(hub: HubServer) -> None:
    hub.repos[NAME] = Repo(
        {"train/0.jsonl": jsonl("a", "b"), "train/1.jsonl": jsonl("c"), "test.jsonl": jsonl("d")},
        {"v1": {"en/train.jsonl": jsonl("e")}},
    )
    assert read(f"hub:{NAME}/train") == [(1, "a"), (2, "b"), (3, "c")]
    assert read(f"hub:{NAME}/default/test") == [(1, "d")]
    assert read(f"hub:{NAME}@v1") == [(1, "e")]
    assert read(f"hub:{NAME}/en/train@v1") == [(1, "e")]
    with pytest.raises(SplitError, match="several splits"):
        read(f"hub:{NAME}")


@pytest.mark.parametrize("named", ["hub:", "hub:x", "hub:/a", "hub:a/b/"])
def test_what_names_no_dataset(named: str) -> None:
    with pytest.raises(HubRequestError, match=r"Write hub:org/name"):
        read(named)
