"""Data folders are found in a checkout and in an installed wheel."""

from pathlib import Path
from typing import get_args

import pytest

from app.core import resources
from tests import PROJECT_ROOT


@pytest.mark.parametrize("name", get_args(resources.Name))
def test_a_checkout_has_them_at_its_top(name: resources.Name) -> None:
    assert resources.folder(name) == PROJECT_ROOT / name
    assert resources.folder(name).is_dir()


def test_a_wheel_has_them_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "app")
    (tmp_path / "app" / "_resources" / "static").mkdir(parents=True)
    (tmp_path / "static").mkdir()  # another distribution's
    assert resources.folder("static") == tmp_path / "app" / "_resources" / "static"
