"""Finds the data folders that ship with the code: templates, static files and migrations.

In a checkout they stand at the top of the repository; the wheel carries them inside the package
(setup.py puts them under app/_resources).
"""

from importlib import resources
from pathlib import Path
from typing import Literal

Name = Literal["templates", "static", "migrations"]

_PACKAGE = Path(str(resources.files("app")))


def folder(name: Name) -> Path:
    """The absolute path of a data folder, in an installed wheel or in a checkout."""
    packaged = _PACKAGE / "_resources" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name
