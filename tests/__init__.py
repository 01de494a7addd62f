"""Tests, benchmarks and chaos runs of this checkout."""

import os
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]
"""The folder of this checkout."""

# Child processes start with `python -P`, which ignores the current folder. They import this
# checkout's packages, also where another one is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(PROJECT_ROOT), os.environ.get("PYTHONPATH")))
)
