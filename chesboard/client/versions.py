"""Versions of what a training runs on, as far as it is installed."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    *("chesboard", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed"),
    *("axolotl", "ms-swift", "llamafactory"),
)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
