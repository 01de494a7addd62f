"""Tests, benchmarks and chaos runs of this checkout."""

import os
from pathlib import Path

# Child processes start with `python -P`, which ignores the current folder. They import this
# checkout's packages, also where another one is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")))
)
