"""Folders for servers, and their processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.local.processes import Children
from tests import support


@pytest.fixture
def folder() -> Iterator[Path]:
    with support.short_folder() as folder:
        yield folder


@pytest.fixture
def children() -> Iterator[Children]:
    children = Children()
    yield children
    children.stop()
