"""Puts the data folders at the top of the repository into the wheel, under app/_resources.

Everything else about the package is declared in pyproject.toml.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
RESOURCES = ("templates", "static", "migrations")

folders = {
    ".".join(("app", "_resources", *path.relative_to(ROOT).parts)): str(path.relative_to(ROOT))
    for name in RESOURCES
    for path in (ROOT / name, *(ROOT / name).rglob("*"))
    if path.is_dir() and path.name != "__pycache__"
}

setup(
    packages=[*find_packages(include=["app*", "chesboard*", "worker*"]), *folders],
    package_dir=folders,
    package_data={
        "app": ["samples/*.jsonl"],
        "chesboard": ["py.typed"],
        **{package: ["*"] for package in folders},
    },
    exclude_package_data={"": ["*.pyc"]},
)
